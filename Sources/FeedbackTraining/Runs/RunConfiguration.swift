import FeedbackTransformer
import Foundation

/// Everything that decides what a training run does. Each setting is declared once more in `Setting.all`, which names it
/// for flags, environment, and files.
public struct RunConfiguration: Equatable, Sendable {
    // The model.
    public var memory = MemoryRouting.feedback
    public var keyValue = KeyValueSharing.shared
    public var layers = 4
    public var dModel = 128
    public var heads = 4
    public var dFF = 512
    public var memoryWindow: Int?
    public var positionInitialization = PositionInitialization.slopes

    // The data.
    public var data = KnownCorpus.tinyShakespeare.name
    public var sequenceLength = 64
    public var batchSize = 12

    // The optimizer.
    public enum Optimizer: String, CaseIterable, Sendable {
        /// Warm-up, then a cosine.
        case adam
        /// The Noam schedule.
        case noam
    }
    public enum Precision: String, CaseIterable, Sendable { case float32 }
    /// How long to train: so many steps, or passes over the training text.
    public enum Length: Equatable, Sendable {
        case steps(Int)
        case epochs(Int)
    }
    public var length = Length.steps(2000)
    public var optimizer = Optimizer.adam
    /// The peak of `adam`'s schedule; the factor of `noam`'s.
    public var learningRate = 1e-3
    /// Where `adam`'s schedule ends.
    public var minimumLearningRate = 1e-4
    public var warmupSteps = 100
    public var beta2 = 0.99
    public var weightDecay = 0.1
    public var gradientClip = 1.0

    // The run.
    public var precision = Precision.float32
    public var threads = ProcessInfo.processInfo.activeProcessorCount
    public var seed = 1
    public var evalInterval = 250
    public var sampleInterval = 500
    public var checkpointInterval = 500
    public var samplePrompt = "It is"

    public init() {}

    /// The length, where it is in steps; setting it makes it so.
    public var steps: Int? {
        get { if case .steps(let steps) = length { steps } else { nil } }
        set { if let newValue { length = .steps(newValue) } }
    }
    /// The length, where it is in epochs; setting it makes it so.
    public var epochs: Int? {
        get { if case .epochs(let epochs) = length { epochs } else { nil } }
        set { if let newValue { length = .epochs(newValue) } }
    }

    /// The model of these settings, for a vocabulary.
    public func model(vocabulary: Int) -> ModelConfiguration {
        ModelConfiguration(
            memory: memory, keyValue: keyValue, layers: layers, dModel: dModel, heads: heads, dFF: dFF,
            vocabulary: vocabulary, memoryWindow: memoryWindow)
    }

    /// A named starting point.
    public enum Preset: String, CaseIterable, Sendable {
        /// About two minutes on two cores.
        case demo
        /// labml's training script (model.md).
        case labml
        /// labml's notebook (model.md).
        case labmlNotebook = "labml-notebook"
        /// The size and the schedule of nanoGPT's Shakespeare example for a CPU.
        case nanogptCPU = "nanogpt-cpu"
    }

    public init(preset: Preset) {
        switch preset {
        case .demo: length = .steps(3000)
        case .nanogptCPU: break
        case .labml, .labmlNotebook:
            (layers, dModel, heads, dFF) = (6, 512, 8, 2048)
            (optimizer, learningRate, warmupSteps) = (.noam, 1, 2000)
            (beta2, weightDecay, positionInitialization) = (0.999, 0, .zero)
            length = .epochs(128)
            if preset == .labml {
                (sequenceLength, batchSize, keyValue) = (128, 64, .shared)
                (evalInterval, sampleInterval, checkpointInterval) = (122, 61, 122)
            } else {
                (sequenceLength, batchSize, keyValue) = (64, 80, .perLayer)
                (evalInterval, sampleInterval, checkpointInterval) = (196, 98, 196)
            }
        }
    }

    /// Throws on settings that are each possible but do not go together.
    public func validate() throws(ConfigurationError) {
        try model(vocabulary: 1).validate()
        if optimizer == .adam {
            guard minimumLearningRate <= learningRate else {
                throw ConfigurationError(
                    "minimum-learning-rate (\(minimumLearningRate)) is above learning-rate (\(learningRate))")
            }
        }
    }
}
