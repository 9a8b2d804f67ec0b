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

/// Where a layer's attention finds its memories.
public enum MemoryRouting: String, Codable, CaseIterable, Sendable {
    /// One vector a step for all layers: a learned weighted sum of every layer's output then (Fan et al. 2020).
    case feedback
    /// One vector a step for all layers: the top layer's output then (the paper's ablation).
    case feedbackLast = "feedback-last"
    /// Each layer sees its own inputs of earlier steps: the ordinary, parallel transformer.
    case perLayer = "per-layer"
}

/// Whether all layers read the same keys and values.
public enum KeyValueSharing: String, Codable, CaseIterable, Sendable {
    /// One projection for all layers; a step's keys and values are computed once.
    case shared
    /// Each layer projects the memories itself: the original model.
    case perLayer = "per-layer"
}

/// What keys and values are made of.
public enum MemoryNorm: String, Codable, CaseIterable, Sendable {
    /// The memory's vectors, normalised: k, v = W LN(m), one gain and shift for all layers. The loop from memory to memory
    /// then keeps its size, whatever the weights have grown to.
    case layer
    /// The vectors as they are, as in labml.
    case none
}

/// The sizes and the wiring of a model.
public struct ModelConfiguration: Equatable, Sendable {
    public var memory: MemoryRouting
    public var keyValue: KeyValueSharing
    public var memoryNorm: MemoryNorm
    /// L.
    public var layers: Int
    /// D.
    public var dModel: Int
    /// H; divides `dModel`.
    public var heads: Int
    /// F.
    public var dFF: Int
    /// V.
    public var vocabulary: Int
    /// P: how far back the tables of relative positions reach.
    public var positions: Int
    /// M: how many memories a step sees at most; without one, as many as the tables reach.
    public var memoryWindow: Int?

    public init(
        memory: MemoryRouting = .feedback, keyValue: KeyValueSharing = .shared, memoryNorm: MemoryNorm = .none,
        layers: Int, dModel: Int, heads: Int, dFF: Int, vocabulary: Int, positions: Int = 4096, memoryWindow: Int? = nil
    ) {
        self.memory = memory
        self.keyValue = keyValue
        self.memoryNorm = memoryNorm
        self.layers = layers
        self.dModel = dModel
        self.heads = heads
        self.dFF = dFF
        self.vocabulary = vocabulary
        self.positions = positions
        self.memoryWindow = memoryWindow
    }

    /// K = D / H.
    public var headSize: Int { dModel / heads }
    /// The memories a step sees at most: the window, or what the position tables reach.
    public var window: Int { min(memoryWindow ?? positions, positions) }
    /// Whether every step waits for the memory of the one before.
    public var isRecurrent: Bool { memory != .perLayer }
    /// The key/value caches: one, where all layers see the same vectors through the same weights, or one a layer.
    public var caches: Int { isRecurrent && keyValue == .shared ? 1 : layers }

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

    /// Throws on a setting that no model can have.
    public func validate() throws(ConfigurationError) {
        func check(_ value: Int, _ name: String, atMost limit: Int) throws(ConfigurationError) {
            guard value >= 1 && value <= limit else {
                throw ConfigurationError("\(name) is \(value); it must be between 1 and \(limit)")
            }
        }
        try check(layers, "layers", atMost: 1000)
        try check(dModel, "d-model", atMost: 65536)
        try check(heads, "heads", atMost: dModel)
        try check(dFF, "d-ff", atMost: 1 << 20)
        try check(vocabulary, "the vocabulary", atMost: 1 << 24)
        try check(positions, "positions", atMost: 1 << 20)
        guard dModel % heads == 0 else {
            throw ConfigurationError(
                "heads (\(heads)) must divide d-model (\(dModel)); choose one of "
                    + (1...dModel).filter { dModel % $0 == 0 }.map(String.init).joined(separator: ", "))
        }
        if let memoryWindow {
            guard memoryWindow >= 1 && memoryWindow <= positions else {
                throw ConfigurationError(
                    "memory-window is \(memoryWindow); the tables of relative positions allow 1 to \(positions)")
            }
        }
    }
}

/// A setting that cannot be used, with what would do instead.
public struct ConfigurationError: Error, Equatable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = oneLine(description) }
}

private func softmax(_ x: [Double]) -> [Double] {
    let largest = x.max() ?? 0
    let exponentials = x.map { exp($0 - largest) }
    let total = exponentials.reduce(0, +)
    return exponentials.map { $0 / total }
}
