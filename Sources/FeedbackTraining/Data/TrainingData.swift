import FeedbackTransformer

/// What a run is trained on.
struct TrainingData {
    /// One a stage of the curriculum.
    let loaders: [any BatchLoader]
    /// What the loaders read again and again; nil where a task's sequences are drawn afresh.
    let stream: TokenStream?
    /// How many steps a task's rows go on as streams before they begin anew.
    private static let stepsInStreams = 64

    /// Throws where the corpus has too little, or not what is asked of it.
    init(_ configuration: RunConfiguration, _ corpus: any Corpus, _ tokenizer: Tokenizer) throws {
        let streams = configuration.streams ?? corpus.readsAsStreams
        let task = corpus as? TaskCorpus
        let fresh = configuration.sequences == nil ? task?.task : nil
        try configuration.checkLessons(fresh)
        let source: any Corpus = configuration.sequences.flatMap { task?.with(training: $0) } ?? corpus
        let stream = fresh == nil ? try source.stream(.training, tokenizer) : nil
        self.stream = stream
        loaders = try configuration.stages.enumerated().map { index, stage in
            let length = stage.sequenceLength
            let batchSize = configuration.batchSize(sequenceLength: length)
            let seed = UInt64(configuration.seed) &+ UInt64(index) << 32
            if let fresh {
                return TaskLoader(
                    fresh, sequenceLength: length, batchSize: batchSize,
                    period: streams ? Self.stepsInStreams * configuration.accumulate : 1, hints: configuration.hints,
                    difficulty: configuration.lessons?.lessons[0].difficulty, seed: seed)
            }
            if streams { return try StreamLoader(stream!, sequenceLength: length, batchSize: batchSize) }
            return try ShuffledLoader(stream!, sequenceLength: length, batchSize: batchSize, seed: seed)
        }
    }
}

extension RunConfiguration {
    /// Throws where lessons or hints are asked for that there are not.
    fileprivate func checkLessons(_ fresh: (any SequenceTask)?) throws {
        guard lessons != nil || hints else { return }
        guard let fresh else {
            throw ConfigurationError(
                "\(lessons == nil ? "hints" : "lessons") is for a task's fresh sequences; leave it out, or use --data "
                    + "variables-3 --sequences fresh")
        }
        for lesson in lessons?.lessons ?? [] { _ = try DifficultyChoice(lesson.difficulty, of: fresh) }
    }
}
