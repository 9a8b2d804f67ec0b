import FeedbackTransformer
import Foundation

/// Trains a model on a text or a task.
///
/// ```swift
/// let corpus = try await TextCorpus.named("tiny_shakespeare")
/// let trainer = try Trainer(RunConfiguration(preset: .demo), corpus: corpus)
/// try trainer.run { event in
///     if case .step(let step) = event { print(step.number, step.loss) }
/// }
/// try trainer.modelFolder.save(to: URL(filePath: "model"))
/// ```
public final class Trainer {
    /// With everything decided that may be left to the corpus.
    public let configuration: RunConfiguration
    public let modelConfiguration: ModelConfiguration
    public let tokenizer: Tokenizer
    /// Optimizer steps taken.
    public internal(set) var step = 0
    /// Optimizer steps that the run takes in all.
    public let totalSteps: Int
    /// The lowest validation loss of the run so far, and its step.
    public internal(set) var best: (loss: Double, step: Int)?
    /// Evaluations since then, none as good.
    var evaluationsSinceBest = 0
    var optimizer: AdamOptimizer
    /// Where the run is in its curriculum.
    private(set) var stage = 0
    /// Where the run is in its lessons.
    var lessonProgress = LessonProgress()
    /// SHA-256 of the data.
    let dataDigest: String
    /// One a stage.
    private var loaders: [any BatchLoader]
    let schedule: Schedule
    let backend: any Backend
    private(set) var session: any TrainingSession
    private(set) var lastGradientNorm = Double.nan
    /// Steps in a row whose gradient was not finite.
    var skips = 0
    static let mostSkips = 10
    private let corpus: any Corpus
    private let validation: TokenStream
    private var evaluator: Evaluator?

    /// A run at its start. Throws on settings that do not go together, or with this data or machine.
    ///
    /// - Parameters:
    ///   - asked: the settings.
    ///   - corpus: what to train on.
    ///   - backend: what computes; where nil, as the configuration has it.
    ///   - communicator: the processes that train together, where no backend is given.
    public convenience init(
        _ asked: RunConfiguration, corpus: some Corpus, backend: (any Backend)? = nil,
        communicator: any Communicator = OneProcess()
    ) throws {
        try self.init(asked, corpus: corpus, backend: try backend ?? asked.backend(communicator), tokenizer: nil)
    }

    /// - Parameter own: the tokenizer, where the run has one already.
    init(_ asked: RunConfiguration, corpus: some Corpus, backend: any Backend, tokenizer own: Tokenizer?) throws {
        try asked.validate()
        tokenizer = try own ?? asked.makeTokenizer(corpus)
        var configuration = asked
        configuration.tokenizer = asked.tokenizer ?? .kind(tokenizer.kind)
        if configuration.tokenizer == .bpe {
            configuration.vocabularySize = asked.vocabularySize ?? Vocabulary.usualSize
        }
        let streams = asked.streams ?? corpus.readsAsStreams
        configuration.streams = streams
        if streams { configuration.memoryWindow = asked.memoryWindow ?? asked.sequenceLength }
        if !(corpus is TaskCorpus) { try asked.checkSamplePrompt(tokenizer) }
        validation = try corpus.stream(.validation, tokenizer)
        guard validation.count > 0 else {
            let name = corpus.name(of: .validation)
            if name != corpus.name {
                throw CorpusError("\(name) has fewer than 2 \(tokenizer.kind.tokens); give more to validate by")
            }
            let count = try corpus.stream(.all, tokenizer).count + 1
            let few = count < 2 ? "fewer than 2" : "\(count)"
            throw CorpusError("\(name) has \(few) \(tokenizer.kind.tokens); it needs at least 20")
        }
        let data = try TrainingData(asked, corpus, tokenizer)
        self.corpus = corpus
        dataDigest = try digest([data.stream, validation].compactMap(\.self))
        loaders = data.loaders
        let tokensPerStep = configuration.sequenceLength * configuration.batchSize * configuration.accumulate
        stepsPerEpoch = data.stream.map { max(1, $0.count / tokensPerStep) }
        self.backend = backend
        var shared = configuration
        shared.threads = 1
        try backend.communicator.agree(
            ["settings": shared.yaml(), "tokenizer": "\(tokenizer.vocabularySize)", "data": dataDigest])
        modelConfiguration = configuration.model(vocabulary: tokenizer.vocabularySize)
        try modelConfiguration.validate()
        for loader in loaders { try backend.checkFit(modelConfiguration, configuration.shape(loader)) }
        let model = try FeedbackModel(
            modelConfiguration, seed: UInt64(configuration.seed), positions: configuration.positionInitialization)
        optimizer = AdamOptimizer(configuration)
        session = try backend.training(model, configuration.shape(loaders[0]))
        totalSteps =
            switch configuration.length {
            case .steps(let steps): steps
            case .epochs(let epochs): try epochs * Self.required(stepsPerEpoch)
            case .seconds(let seconds):  // of which a tenth is left for samples and checkpoints
                try Self.steps(
                    in: Double(seconds), configuration, model, validation, session, optimizer, loaders, backend)
            }
        if configuration.seconds != nil { configuration.steps = totalSteps }
        schedule =
            switch configuration.optimizer {
            case .adam:
                .cosine(
                    peak: configuration.learningRate,
                    minimum: configuration.minimumLearningRate ?? min(1e-4, configuration.learningRate / 10),
                    warmup: configuration.warmupSteps, total: totalSteps)
            case .noam:
                .noam(
                    factor: configuration.learningRate, dModel: configuration.dModel,
                    warmup: configuration.warmupSteps)
            }
        self.configuration = configuration
    }

    /// As many steps as this machine takes in so many seconds, validating at the configured intervals.
    private static func steps(
        in seconds: Double, _ configuration: RunConfiguration, _ model: FeedbackModel, _ validation: TokenStream,
        _ session: any TrainingSession, _ optimizer: AdamOptimizer, _ loaders: [any BatchLoader], _ backend: any Backend
    ) throws -> Int {
        let window = min(model.configuration.window, configuration.carry + configuration.stages[0].sequenceLength)
        let evaluator = try evaluator(of: model, validation, backend, memoryWindow: window)
        func evaluate() throws -> Double {
            let start = ContinuousClock.now
            _ = try evaluator.run()
            return backend.communicator.first((ContinuousClock.now - start) / .seconds(1))
        }
        // The first of short ones mostly prepares products.
        var evaluation = try evaluate()
        if evaluation < seconds / 50 { evaluation = try evaluate() }
        return try stepsOfStages(within: 0.9 * seconds, starts: configuration.stages.map(\.start)) { stage in
            let shape = configuration.shape(loaders[stage])
            return evaluation / Double(configuration.evalInterval)
                + (try secondsPerStep(
                    configuration, stage == 0 ? session : try backend.training(model, shape), optimizer,
                    loaders[stage], atMost: seconds / 50, backend.communicator))
        }
    }

    /// A step's time on this machine, from some at a learning rate of 0, which leave everything as it was.
    private static func secondsPerStep(
        _ configuration: RunConfiguration, _ session: any TrainingSession, _ optimizer: AdamOptimizer,
        _ loader: any BatchLoader, atMost longest: Double, _ communicator: any Communicator
    ) throws -> Double {
        var (loader, optimizer) = (loader, optimizer)
        let batches = Array(repeating: try loader.next(), count: configuration.accumulate)
        func time() -> Double {
            communicator.first(
                seconds {
                    _ = session.gradient(of: batches, dropout: configuration.dropout(step: 0))
                    _ = optimizer.update(session, learningRate: 0)
                })
        }
        // The first touches memory and prepares products.
        _ = time()
        var times: [Double] = []
        while times.count < 3 || times.reduce(0, +) < min(1.5, longest) { times.append(time()) }
        session.forget()
        let zeros = Parameters(session.read(.parameters).table)
        for moment in [Trained.firstMoment, .secondMoment] { session.write(zeros, to: moment) }
        return median(times)
    }

    private static func required(_ stepsPerEpoch: Int?) throws(ConfigurationError) -> Int {
        guard let stepsPerEpoch else {
            throw ConfigurationError(
                "fresh sequences have no epochs; give --steps or --seconds, or a number of --sequences")
        }
        return stepsPerEpoch
    }

    public var parameterCount: Int { ParameterTable(modelConfiguration).count }
    /// Optimizer steps that see as many tokens as the training text has; nil where it has no end.
    public let stepsPerEpoch: Int?
    /// T and B of the batches as they are now; a curriculum changes them.
    public var sequenceLength: Int { loader.sequenceLength }
    public var batchSize: Int { loader.batchSize }
    public var tokensPerStep: Int { sequenceLength * batchSize * configuration.accumulate }

    var loader: any BatchLoader {
        get { loaders[stage] }
        set { loaders[stage] = newValue }
    }

    /// How difficult the present lesson is; nil without lessons.
    public var difficulty: ClosedRange<Int>? { configuration.lessons?.lessons[lessonProgress.lesson].difficulty }

    /// Goes to a stage of the curriculum: batches of another shape, from a fresh order of the data, without memory.
    func enter(stage: Int) throws {
        if stage == self.stage { return }
        self.stage = stage
        let next = try backend.training(model, configuration.shape(loader))
        for moment in [Trained.firstMoment, .secondMoment] { next.write(session.read(moment), to: moment) }
        session = next
        evaluator = nil
    }

    /// The model as it is now.
    public var model: FeedbackModel { FeedbackModel(session.read(.parameters)) }

    /// The same, to save or to generate from.
    public var modelFolder: ModelFolder {
        ModelFolder(
            model: model, tokenizer: tokenizer,
            sequenceLength: configuration.carry + configuration.stages[...stage].map(\.sequenceLength).max()!)
    }

    /// Takes the parameters that another model has too, by name; before the first step. Throws where sizes or vocabulary
    /// differ; memory routing and the sharing of keys and values may.
    ///
    /// - Returns: the names of the parameters that stay as freshly drawn, because the other model has none such, and of
    ///   those of the other model that this one has no place for.
    public func initialize(from other: ModelFolder) throws(ConfigurationError) -> (fresh: [String], unused: [String]) {
        let (theirs, ours) = (other.model.configuration, modelConfiguration)
        for (name, size) in [
            ("layers", \ModelConfiguration.layers), ("d-model", \.dModel), ("heads", \.heads), ("d-ff", \.dFF),
            ("positions", \.positions),
        ] where theirs[keyPath: size] != ours[keyPath: size] {
            throw ConfigurationError(
                "the model to begin with has \(name) \(theirs[keyPath: size]), this run has \(ours[keyPath: size]); "
                    + "leave that out, and it is taken from there")
        }
        guard other.tokenizer == tokenizer else {
            throw ConfigurationError(
                "the model to begin with has another vocabulary (\(other.tokenizer.vocabularySize) "
                    + "\(other.tokenizer.kind.rawValue)) than the data (\(tokenizer.vocabularySize) "
                    + "\(tokenizer.kind.rawValue)); train on the same text, or with its tokenizer")
        }
        var parameters = session.read(.parameters)
        let (known, own) = (other.model.parameters.table, parameters.table)
        for parameter in own.parameters where known[parameter.name] != nil {
            parameters[parameter.name] = other.model.parameters[parameter.name]
        }
        session.write(parameters)
        return (
            own.parameters.map(\.name).filter { known[$0] == nil },
            known.parameters.map(\.name).filter { own[$0] == nil }
        )
    }

    /// What one optimizer step did.
    public struct Step: Codable, Equatable, Sendable {
        /// From 1.
        public let number: Int
        /// Mean cross-entropy of the batch in nats, before the update.
        public let loss: Double
        public let learningRate: Double
        /// Before clipping; nil where it was not finite, and so changed nothing.
        public let gradientNorm: Double?
        /// Wall-clock time of the step.
        public let seconds: Double
        /// Tokens predicted.
        public let tokens: Int
        /// The share of them that the model held for the likeliest; of nothing, 0.
        public let accuracy: Double
    }

    /// One update, from one batch or from as many as are accumulated.
    ///
    /// A gradient that is not finite changes nothing: far back through the recurrence it may overflow now and then, and the
    /// next batch's does not. What is carried is forgotten then, as memories that have grown from step to step are what makes
    /// it overflow. Where that happens eleven times in a row, or the loss is not finite, it throws, and the model stays as it
    /// was.
    public func trainStep() throws -> Step {
        let start = ContinuousClock.now
        try enter(stage: configuration.stages.lastIndex { $0.start <= step }!)
        loader.difficulty = difficulty
        if loader.beginsAnew { session.forget() }
        let batches = try (0..<configuration.accumulate).map { _ in try loader.next() }
        let sum = session.gradient(of: batches, dropout: configuration.dropout(step: step))
        // A batch of a task may by chance have nothing to predict.
        let loss = sum.loss / Double(max(1, sum.targets))
        let rate = schedule.learningRate(step: step + 1)
        let norm = loss.isFinite ? optimizer.update(session, learningRate: rate) : session.gradientNorm()
        guard loss.isFinite, norm.isFinite || skips < Self.mostSkips else {
            throw TrainingError(
                step: step + 1, what: loss.isFinite ? "the gradient is not finite" : "the loss is not finite",
                learningRate: rate, gradientNorm: norm, lastGradientNorm: lastGradientNorm)
        }
        step += 1
        lastGradientNorm = norm
        skips = norm.isFinite ? 0 : skips + 1
        if !norm.isFinite { session.forget() }
        if let lessons = configuration.lessons {
            lessonProgress.note(correct: sum.correct, of: sum.targets, step: step, lessons)
        }
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        return Step(
            number: step, loss: loss, learningRate: rate, gradientNorm: norm.isFinite ? norm : nil, seconds: seconds,
            tokens: sum.targets, accuracy: Double(sum.correct) / Double(max(1, sum.targets)))
    }

    /// The tokens of a text that are predicted in a validation: all of a small text's, of a large one's as many from all over it.
    static let mostValidated = 1 << 20

    /// The model's loss on the validation data, memory carried.
    public func validate() throws -> Evaluation {
        let folder = modelFolder
        if let evaluator {
            evaluator.write(folder.model.parameters)
            return try evaluator.run()
        }
        let first = try Self.evaluator(of: folder.model, validation, backend, memoryWindow: folder.memoryWindow)
        evaluator = first
        return try first.run()
    }

    private static func evaluator(
        of model: FeedbackModel, _ validation: TokenStream, _ backend: any Backend, memoryWindow: Int
    ) throws -> Evaluator {
        try Evaluator(
            model, validation, on: backend, memoryWindow: memoryWindow,
            most: validation.starts.isEmpty ? mostValidated : nil)
    }

    /// What the model makes of the sample prompt, at a temperature of 0.8, or its answers to a fresh sequence of a task; the
    /// same for the same step.
    public func sample(length: Int = 200) throws -> String {
        let seed = UInt64(truncatingIfNeeded: configuration.seed &+ step)
        if let task = (corpus as? TaskCorpus)?.task {
            var random = RandomSource(seed: ~seed)
            let sequence = task.sequence(difficulty.map { DifficultyChoice($0) }, using: &random)
            return try task.answered(by: modelFolder, on: backend, sequence: sequence)
        }
        let isKnown = (try? tokenizer.encode(configuration.samplePrompt))?.isEmpty == false
        let prompt = isKnown ? configuration.samplePrompt : tokenizer.decode([0])
        var generator = try TextGenerator(
            modelFolder, on: backend, prompt: prompt, maxTokens: length, sampler: Sampler(temperature: 0.8, seed: seed))
        var text = prompt
        while let piece = try generator.next() { text += piece }
        return text
    }
}

extension RunConfiguration {
    /// What a step drops.
    fileprivate func dropout(step: Int) -> Dropout? {
        dropout > 0 ? Dropout(rate: dropout, seed: UInt64(seed)).part(step) : nil
    }

    /// The memories that one batch leaves to the next.
    var carry: Int { streams == true ? memoryWindow ?? sequenceLength : 0 }

    /// The tokenizer that is asked for.
    fileprivate func makeTokenizer(_ corpus: some Corpus) throws -> Tokenizer {
        let size = vocabularySize ?? Vocabulary.usualSize
        return switch tokenizer {
        case nil: try corpus.tokenizer(nil, size: size)
        case .kind(let kind): try corpus.tokenizer(kind, size: size)
        case .file(let path): try TokenizerChoice.read(path)
        }
    }

    /// Throws where samples could not begin as somebody wants them to; the usual prompt is none that anybody asked for.
    fileprivate func checkSamplePrompt(_ tokenizer: Tokenizer) throws(ConfigurationError) {
        if samplePrompt == RunConfiguration().samplePrompt { return }
        do {
            if try tokenizer.encode(samplePrompt).isEmpty { throw TokenizerError.malformed("it has no token") }
        } catch {
            throw ConfigurationError("sample-prompt cannot be used: \(error)")
        }
    }

    /// The sizes of a loader's batches.
    fileprivate func shape(_ loader: any BatchLoader) -> BatchShape {
        BatchShape(
            steps: loader.sequenceLength, batchSize: loader.batchSize, carry: carry, memoryWindow: nil)
    }
}

/// The steps of a run whose stages begin at these steps, in so many seconds; at least one.
func stepsOfStages(
    within seconds: Double, starts: [Int], secondsPerStep: (_ stage: Int) throws -> Double
) rethrows -> Int {
    var left = seconds
    for (stage, start) in starts.enumerated() {
        let time = try secondsPerStep(stage)
        let steps = Int(left / time)
        guard stage + 1 < starts.count, steps >= starts[stage + 1] - start else { return max(1, start + steps) }
        left -= Double(starts[stage + 1] - start) * time
    }
    return 1
}
