import Foundation

/// A model: its configuration and its parameters in float32.
///
/// Train it with `Trainer` (FeedbackTraining), run it with a `Backend`, save it with a `ModelFolder`.
public struct FeedbackModel: Sendable {
    public let configuration: ModelConfiguration
    public var parameters: Parameters

    /// A model of these parameters.
    public init(_ parameters: Parameters) {
        configuration = parameters.table.configuration
        self.parameters = parameters
    }

    /// A model with freshly drawn parameters, the same for the same seed.
    public init(
        _ configuration: ModelConfiguration, seed: UInt64, positions: PositionInitialization = .slopes
    ) throws(ConfigurationError) {
        try configuration.validate()
        self.init(Parameters(ParameterTable(configuration), seed: seed, positions: positions))
    }

    public var parameterCount: Int { parameters.table.count }

    /// softmax(w), the weight of every layer's output in a memory, the embedding's first; nil for a model without.
    public var layerWeights: [Double]? {
        configuration.memory == .feedback ? softmax(parameters["transformer.weights"].map(Double.init)) : nil
    }
}

extension ModelConfiguration {
    /// a_l (E9): how much of each layer's output is in a memory; empty where the memory is the layers' own inputs.
    ///
    /// - Parameter w: the numbers of the parameter `transformer.weights`, asked for where the model has it.
    public func memoryWeights(_ w: @autoclosure () -> [Double]) -> [Double] {
        switch memory {
        case .feedback: softmax(w())
        case .feedbackLast: Array(repeating: 0, count: layers) + [1]
        case .perLayer: []
        }
    }

    /// Whether every step waits for the memory of the one before.
    public var isRecurrent: Bool { memory != .perLayer }
    /// The key/value caches: one, where all layers see the same vectors through the same weights, or one a layer.
    public var caches: Int { isRecurrent && keyValue == .shared ? 1 : layers }
}

private func softmax(_ x: [Double]) -> [Double] {
    let largest = x.max() ?? 0
    let exponentials = x.map { exp($0 - largest) }
    let total = exponentials.reduce(0, +)
    return exponentials.map { $0 / total }
}
