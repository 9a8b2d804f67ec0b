import FeedbackTransformer

/// What a model is trained on and measured by: a text, or a task that makes its own sequences.
public protocol Corpus: Sendable {
    var name: String { get }

    /// The tokenizer of that kind, or the usual one where nil. Throws where the corpus has no such tokens.
    ///
    /// - Parameters:
    ///   - kind: what a token is.
    ///   - size: of BPE, the tokens to have, at most.
    func tokenizer(_ kind: Tokenizer.Kind?, size: Int) throws -> Tokenizer

    /// A part as tokens and what is to be predicted at each. Throws where the corpus has no such part.
    func stream(_ part: CorpusPart, _ tokenizer: Tokenizer) throws -> TokenStream

    /// Whether it is read as contiguous streams, with memory carried, where nothing else is asked for.
    var readsAsStreams: Bool { get }

    /// What the data of a part is called.
    func name(of part: CorpusPart) -> String
}

extension Corpus {
    public func name(of part: CorpusPart) -> String { name }

    public func tokenizer(_ kind: Tokenizer.Kind?) throws -> Tokenizer {
        try tokenizer(kind, size: Vocabulary.usualSize)
    }
}

/// The parts of a corpus.
public enum CorpusPart: String, CaseIterable, Sendable { case training, validation, test, all }

/// Data that cannot be had or used, with what would do instead.
public struct CorpusError: Error, Equatable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}

/// How far data has been had or read.
public struct CorpusProgress: Sendable {
    public enum Work: String, Sendable {
        case downloading, reading
        /// Turning a text that is too large for memory into tokens, once.
        case encoding
    }
    public let work: Work
    /// In bytes, of how many.
    public let done, total: Int
    /// Since it began.
    public let seconds: Double
}

/// The corpus of a known name, the task of one, or the text of a file, of several with commas between them, or of all in a folder.
///
/// - Parameters:
///   - nameOrPath: the name, or the path.
///   - validation: a text to validate by, in the same words; where nil, a text's last tenth.
///   - field: the field of a line that has a text, in `.jsonl` files; where nil, `text`.
///   - progress: called again and again on long work, there and when the corpus is read.
public func corpus(
    named nameOrPath: String, validation: String? = nil, field: String? = nil,
    progress: @escaping @Sendable (CorpusProgress) -> Void = { _ in }
) async throws -> any Corpus {
    if let task = TaskCorpus.all.first(where: { $0.name == nameOrPath }) {
        guard validation == nil else {
            throw CorpusError("\(task.name) makes sequences of its own to validate by; leave out --validation")
        }
        return task
    }
    let text = try await TextCorpus.named(nameOrPath, field: field, progress: progress)
    guard let validation else { return text }
    return text.validated(by: try await TextCorpus.named(validation, field: field, progress: progress))
}

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
        if let task { try configuration.checkSamplePrompt(task) }
        if configuration.field != nil, (corpus as? TextCorpus)?.hasFields != true {
            throw ConfigurationError("field is for .jsonl files, of which \(corpus.name) has none; leave it out")
        }
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

    /// Throws where somebody wants samples of a task to begin with a text.
    fileprivate func checkSamplePrompt(_ task: TaskCorpus) throws(ConfigurationError) {
        guard samplePrompt != RunConfiguration().samplePrompt else { return }
        throw ConfigurationError("samples of \(task.name) are sequences of its own; leave out sample-prompt")
    }
}
