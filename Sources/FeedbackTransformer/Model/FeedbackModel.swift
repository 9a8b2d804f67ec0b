import FeedbackEngine

/// A model: its configuration and its parameters in float32.
///
/// Train it with `Trainer` (FeedbackTraining), run it with `Decoder`, save it with a `ModelFolder`.
public final class FeedbackModel: Sendable {
    public let configuration: ModelConfiguration
    public let parameters: ParameterStore

    /// A model with all parameters zero, to be loaded.
    init(zero configuration: ModelConfiguration) throws(ConfigurationError) {
        try configuration.validate()
        self.configuration = configuration
        parameters = ParameterStore(ParameterTable(configuration), executor: CPUExecutor())
    }

    /// A model with freshly drawn parameters, the same for the same seed.
    public convenience init(
        _ configuration: ModelConfiguration, seed: UInt64, positions: PositionInitialization = .slopes
    ) throws(ConfigurationError) {
        try self.init(zero: configuration)
        parameters.initialize(seed: seed, positions: positions)
    }

    public var parameterCount: Int { parameters.table.count }

    /// softmax(w), the weight of every layer's output in a memory, the embedding's first; nil for a model without.
    public var layerWeights: [Double]? {
        configuration.memory == .feedback
            ? FeedbackEngine.layerWeights(parameters.matrix("transformer.weights")) : nil
    }
}
