import FeedbackEngine
import FeedbackTransformer
import Foundation

/// Trains a model on a text.
///
/// ```swift
/// let trainer = try Trainer(RunConfiguration(preset: .demo), corpus: try await .named("tiny_shakespeare"))
/// try trainer.run { event in
///     if case .step(let step) = event { print(step.number, step.loss) }
/// }
/// try trainer.modelFolder.save(to: URL(filePath: "model"))
/// ```
public final class Trainer {
    public let configuration: RunConfiguration
    public let model: FeedbackModel
    public let tokenizer: CharacterTokenizer
    /// Optimizer steps taken.
    public internal(set) var step = 0
    /// Optimizer steps that the run takes in all.
    public let totalSteps: Int
    /// The lowest validation loss so far, and its step.
    public internal(set) var best: (loss: Double, step: Int)?
    let optimizer: AdamOptimizer
    var loader: ShuffledLoader
    private let schedule: Schedule
    private let pass: TrainingPass
    private let validationTokens: [Int32]
    private var evaluator: Evaluator?

    /// A run at its start. Throws on settings that do not go together, or with this text or machine.
    public init(_ configuration: RunConfiguration, corpus: TextCorpus) throws {
        try configuration.validate()
        tokenizer = CharacterTokenizer(corpus.text)
        let (training, validation) = try corpus.split(tokenizer)
        guard validation.count > 1 else {
            throw CorpusError(
                "\(corpus.name) has \(training.count + validation.count) characters; it needs at least 20")
        }
        loader = try ShuffledLoader(
            training, sequenceLength: configuration.sequenceLength, batchSize: configuration.batchSize,
            seed: UInt64(configuration.seed))
        validationTokens = validation
        totalSteps =
            switch configuration.length {
            case .steps(let steps): steps
            case .epochs(let epochs): epochs * loader.batchesPerEpoch
            }
        let model = configuration.model(vocabulary: tokenizer.vocabularySize)
        try model.validate()
        try MemoryEstimate(
            model, steps: configuration.sequenceLength, batchSize: configuration.batchSize,
            threads: configuration.threads
        ).check()
        self.model = try FeedbackModel(
            model, seed: UInt64(configuration.seed), positions: configuration.positionInitialization)
        pass = TrainingPass(
            self.model, steps: configuration.sequenceLength, batchSize: configuration.batchSize,
            threads: configuration.threads)
        var settings = AdamOptimizer.Settings()
        settings.beta2 = configuration.beta2
        settings.weightDecay = configuration.weightDecay
        settings.gradientClip = configuration.gradientClip
        optimizer = AdamOptimizer(self.model.parameters.table, settings: settings)
        schedule =
            switch configuration.optimizer {
            case .adam:
                .cosine(
                    peak: configuration.learningRate, minimum: configuration.minimumLearningRate,
                    warmup: configuration.warmupSteps, total: totalSteps)
            case .noam:
                .noam(
                    factor: configuration.learningRate, dModel: configuration.dModel,
                    warmup: configuration.warmupSteps)
            }
        self.configuration = configuration
        pass.parametersChanged()
    }

    public var parameterCount: Int { model.parameterCount }
    public var tokensPerStep: Int { configuration.sequenceLength * configuration.batchSize }
    public var stepsPerEpoch: Int { loader.batchesPerEpoch }

    /// The model as it is now, to save or to generate from.
    public var modelFolder: ModelFolder {
        ModelFolder(model: model, tokenizer: tokenizer, sequenceLength: configuration.sequenceLength)
    }

    /// Takes the parameters that another model has too, by name; before the first step.
    ///
    /// - Returns: the names of the parameters that stay as freshly drawn, because the other model has none such.
    public func initialize(from other: ModelFolder) throws(ConfigurationError) -> [String] {
        guard other.tokenizer == tokenizer else {
            throw ConfigurationError(
                "the model to begin with has another vocabulary than the data; train on the same text")
        }
        var fresh: [String] = []
        for parameter in model.parameters.table.parameters {
            guard let known = other.model.parameters.table[parameter.name] else {
                fresh.append(parameter.name)
                continue
            }
            guard known.shape == parameter.shape else {
                throw ConfigurationError(
                    "the model to begin with has \(parameter.name) in the shape \(known.shape), this one needs "
                        + "\(parameter.shape); use the same sizes")
            }
            model.parameters[parameter.name] = other.model.parameters[parameter.name]
        }
        parametersChanged()
        return fresh
    }

    /// To be called when the parameters have been changed from outside.
    func parametersChanged() { pass.parametersChanged() }

    /// What one optimizer step did.
    public struct Step: Codable, Equatable, Sendable {
        /// From 1.
        public let number: Int
        /// Mean cross-entropy of the batch in nats, before the update.
        public let loss: Double
        public let learningRate: Double
        /// Before clipping.
        public let gradientNorm: Double
        /// Wall-clock time of the step.
        public let seconds: Double
        /// Characters predicted.
        public let tokens: Int
    }

    /// One batch and one update. Where loss or gradient are not finite it throws, and the model stays as it was.
    public func trainStep() throws(TrainingError) -> Step {
        let start = ContinuousClock.now
        let batch = loader.next()
        let sum = pass.run(inputs: batch.inputs, targets: batch.targets)
        let loss = sum.loss / Double(sum.targets)
        let rate = schedule.learningRate(step: step + 1)
        guard loss.isFinite else {
            throw TrainingError(step: step + 1, what: "the loss is \(loss)", learningRate: rate)
        }
        let norm = optimizer.update(pass, learningRate: rate)
        guard norm.isFinite else {
            throw TrainingError(step: step + 1, what: "the gradient's norm is \(norm)", learningRate: rate)
        }
        step += 1
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        return Step(
            number: step, loss: loss, learningRate: rate, gradientNorm: norm, seconds: seconds, tokens: sum.targets)
    }

    /// The model's loss on the whole validation text, memory carried.
    public func validate() throws -> Evaluation {
        let evaluator =
            try evaluator
            ?? Evaluator(
                model, tokens: validationTokens, memoryWindow: modelFolder.memoryWindow, threads: configuration.threads)
        self.evaluator = evaluator
        let evaluation = try evaluator.run()
        if evaluation.loss < best?.loss ?? .infinity { best = (evaluation.loss, step) }
        return evaluation
    }

    /// What the model makes of the sample prompt, at a temperature of 0.8; the same for the same step.
    public func sample(length: Int = 200) throws -> String {
        let known = configuration.samplePrompt.unicodeScalars.allSatisfy(tokenizer.characters.contains)
        let prompt = known ? configuration.samplePrompt : tokenizer.decode([0])
        var generator = try TextGenerator(
            modelFolder, prompt: prompt, maxTokens: length,
            sampler: Sampler(temperature: 0.8, seed: UInt64(configuration.seed &+ step)))
        var text = prompt
        while let piece = try generator.next() { text += piece }
        return text
    }
}

/// Training that cannot go on.
public struct TrainingError: Error, CustomStringConvertible {
    public let step: Int
    public let what: String
    public let learningRate: Double

    public var description: String {
        "training stopped at step \(step): \(what), at a learning rate of \(learningRate). The model is as it was "
            + "before that step; try a smaller --learning-rate or a smaller --gradient-clip"
    }
}

/// How much memory a training run takes, roughly, so that one that cannot fit is refused before it begins.
struct MemoryEstimate {
    let bytes: Double

    init(_ model: ModelConfiguration, steps: Int, batchSize: Int, threads: Int) {
        let (D, F, H, L) = (Double(model.dModel), Double(model.dFF), Double(model.heads), Double(model.layers))
        let (T, B, V) = (Double(steps), Double(batchSize), Double(model.vocabulary))
        let perLayer = 2 * D * D + 2 * D * F + Double(model.positions) * (D + H)
        let keyValue = 2 * D * D * (model.keyValue == .shared ? 1 : L)
        let parameters = V * D * 2 + L * perLayer + keyValue
        let kept = L * (4 * D + F + H * (T + 32)) + 4 * D + 2 * V + 6 * D
        let rows = min(B, Double(threads) * 32)
        // Parameters, two moments, packed twice, and a gradient a worker; what is kept for the backward pass.
        bytes = 4 * (parameters * (5 + min(B, Double(threads))) + T * rows * kept)
    }

    func check() throws(ConfigurationError) {
        let available = Double(ProcessInfo.processInfo.physicalMemory)
        guard bytes <= available else {
            func gibibytes(_ bytes: Double) -> String { String(format: "%.1f GiB", bytes / 0x1p30) }
            throw ConfigurationError(
                "these settings take about \(gibibytes(bytes)) of memory; this machine has \(gibibytes(available)). "
                    + "Use a smaller model, sequence-length or batch-size")
        }
    }
}
