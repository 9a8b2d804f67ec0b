import Foundation

/// One parameter: its checkpoint name and shape, and where it lies among all parameters.
public struct Parameter: Equatable, Sendable {
    /// How a fresh parameter is drawn: PyTorch's defaults.
    public enum Initial: Equatable, Sendable {
        case zeros, ones
        /// N(0, 1).
        case normal
        /// U(−bound, bound).
        case uniform(bound: Double)
        /// Zero, or a slope for each head: see `PositionInitialization`.
        case positionBias
    }

    /// As in a labml checkpoint.
    public let name: String
    public let shape: [Int]
    public let offset: Int
    public let initial: Initial
    /// Whether weight decay applies: to the matrices of linear maps and the embedding.
    public let decays: Bool

    public var count: Int { shape.reduce(1, *) }
    public var range: Range<Int> { offset..<offset + count }
    /// The parameter as a matrix: its first axis is the rows, all others together are the columns; a vector is one row.
    public var rows: Int { shape.count == 1 ? 1 : shape[0] }
    public var columns: Int { count / rows }
}

/// Every parameter of a model, declared once: names, shapes, places, initial values, gradients, optimizer state and
/// checkpoints all derive from this table. All parameters lie in one flat array in the table's order.
public struct ParameterTable: Equatable, Sendable {
    public let configuration: ModelConfiguration
    public private(set) var parameters: [Parameter] = []
    private var byName: [String: Int] = [:]

    /// How many numbers all parameters together have.
    public private(set) var count = 0

    public init(_ configuration: ModelConfiguration) {
        self.configuration = configuration
        let (D, F, V) = (configuration.dModel, configuration.dFF, configuration.vocabulary)
        let (H, K, P) = (configuration.heads, configuration.headSize, configuration.positions)

        add("src_embed.weight", .normal, [V, D], decays: true)
        if configuration.memory == .feedback { add("transformer.weights", .ones, [configuration.layers + 1]) }
        if configuration.keyValue == .shared {
            // Key and value lie together: one [2D, D] matrix.
            addLinear("transformer.key.linear", D, D, hasBias: false)
            addLinear("transformer.value.linear", D, D, hasBias: false)
        }
        if configuration.memoryNorm == .layer { addNorm("transformer.norm_memory") }
        for l in 0..<configuration.layers {
            let layer = "transformer.layers.\(l)"
            addLinear("\(layer).attn.query.linear", D, D, hasBias: false)
            if configuration.keyValue == .perLayer {
                addLinear("\(layer).attn.key.linear", D, D, hasBias: false)
                addLinear("\(layer).attn.value.linear", D, D)
            }
            addLinear("\(layer).attn.output", D, D)
            add("\(layer).attn.query_pos_bias", .zeros, [H, K])
            add("\(layer).attn.key_pos_embeddings", .zeros, [P, H, K])
            add("\(layer).attn.key_pos_bias", .positionBias, [P, H])
            addNorm("\(layer).norm_self_attn")
            addLinear("\(layer).feed_forward.layer1", F, D)
            addLinear("\(layer).feed_forward.layer2", D, F)
            addNorm("\(layer).norm_ff")
        }
        addNorm("transformer.norm")
        addLinear("generator", V, D)
    }

    private mutating func addLinear(_ name: String, _ outputs: Int, _ inputs: Int, hasBias: Bool = true) {
        let initial = Parameter.Initial.uniform(bound: 1 / Double(inputs).squareRoot())
        add("\(name).weight", initial, [outputs, inputs], decays: true)
        if hasBias { add("\(name).bias", initial, [outputs]) }
    }

    private mutating func addNorm(_ name: String) {
        add("\(name).weight", .ones, [configuration.dModel])
        add("\(name).bias", .zeros, [configuration.dModel])
    }

    private mutating func add(_ name: String, _ initial: Parameter.Initial, _ shape: [Int], decays: Bool = false) {
        byName[name] = parameters.count
        parameters.append(Parameter(name: name, shape: shape, offset: count, initial: initial, decays: decays))
        count += parameters.last!.count
    }

    public subscript(name: String) -> Parameter? { byName[name].map { parameters[$0] } }

    /// The parameter of that name. Traps where the table has none: a defect.
    public func parameter(_ name: String) -> Parameter {
        guard let parameter = self[name] else { preconditionFailure("no parameter \(name)") }
        return parameter
    }

    /// What of each parameter training with offsets up to `reach` can change, and whether it decays.
    ///
    /// Rows of the position tables beyond the reach get no gradient, and as they do not decay, Adam leaves them as they
    /// are; so they are left out of everything.
    public func trainable(reach: Int) -> [(range: Range<Int>, decays: Bool)] {
        parameters.map { parameter in
            var range = parameter.range
            if parameter.name.hasSuffix(".key_pos_embeddings") || parameter.name.hasSuffix(".key_pos_bias") {
                let unreachable = max(0, parameter.rows - reach)
                range = parameter.offset + unreachable * parameter.columns..<range.upperBound
            }
            return (range, parameter.decays)
        }
    }
}

/// How a fresh model's bias of a memory's distance, S, begins.
public enum PositionInitialization: String, CaseIterable, Sendable {
    /// S_o = 0, as in labml: at first every memory counts the same, however far back.
    case zero
    /// K^-½ S_o = −2^(−8h/H) · o for head h = 1 … H (ALiBi, Press et al. 2022): at first near memories count more, in
    /// some heads much more. It is learned from there.
    case slopes
}

/// One number for each of a model's parameters, in float32: the parameters themselves, a gradient, or an optimizer's state.
public struct Parameters: Equatable, Sendable {
    public let table: ParameterTable
    /// All numbers, in the table's order.
    public var values: [Float] {
        didSet { precondition(values.count == table.count, "\(values.count) numbers for \(table.count) parameters") }
    }

    /// All zero.
    public init(_ table: ParameterTable) {
        self.table = table
        values = Array(repeating: 0, count: table.count)
    }

    /// The numbers of the parameter of that name, row-major. Traps where the table has none.
    public subscript(name: String) -> [Float] {
        get { Array(values[table.parameter(name).range]) }
        set {
            let range = table.parameter(name).range
            precondition(newValue.count == range.count, "\(newValue.count) values for \(name)'s \(range.count)")
            values.replaceSubrange(range, with: newValue)
        }
    }

    /// Freshly drawn parameters; each random one from a random source of its own, so that tables that differ in some parameters
    /// agree in the others.
    public init(_ table: ParameterTable, seed: UInt64, positions: PositionInitialization = .slopes) {
        self.init(table)
        values.withUnsafeMutableBufferPointer { values in
            for parameter in table.parameters {
                var random = RandomSource(
                    seed: parameter.name.utf8.reduce(seed) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 })
                func fill(_ next: () -> Double) { for index in parameter.range { values[index] = Float(next()) } }
                switch parameter.initial {
                case .zeros: break
                case .ones: fill { 1 }
                case .normal: fill { random.normal() }
                case .uniform(let bound): fill { (2 * random.uniform() - 1) * bound }
                case .positionBias:
                    guard positions == .slopes else { break }
                    let (heads, scale) = (table.configuration.heads, Double(table.configuration.headSize).squareRoot())
                    for (index, place) in parameter.range.enumerated() {
                        let slope = exp2(-8 * Double(index % heads + 1) / Double(heads))
                        values[place] = Float(-slope * Double(parameter.rows - index / heads) * scale)
                    }
                }
            }
        }
    }
}

/// One linear map of a model: the parameters it is made of, as E3 has them (Documentation/Equations.md).
///
///     y = x W'ᵀ + b'        W' = s W diag(γ),   b' = s (W β + b)
public struct LinearMap: Sendable {
    /// W, [outputs, inputs].
    public let weight: Parameter
    /// b. It may be shorter than the outputs: it then belongs to the last of them.
    public let bias: Parameter?
    /// γ and β of the LayerNorm before it.
    public let norm: (gain: Parameter, shift: Parameter)?
    /// s.
    public let scale: Double

    public var outputs: Int { weight.rows }
    public var inputs: Int { weight.columns }
}

/// All linear maps of a model: the one list from which training and decoding pack their weights.
public struct LinearMaps: Sendable {
    public struct Layer: Sendable {
        /// q̃ = K^-½ (Wq LN(x) + u).
        public let query: LinearMap
        public let output: LinearMap
        public let inner: LinearMap
        public let outer: LinearMap
        /// U [P, D], S [P, H] and u [D] of relative positions (E5).
        public let embeddings, positionBias, queryBias: Parameter
    }
    public let layers: [Layer]
    /// Keys and values [2D, D], the keys first: one map for all layers, or one each. A bias is the values' alone.
    public let keyValue: [LinearMap]
    public let generator: LinearMap

    public init(_ table: ParameterTable) {
        let configuration = table.configuration
        func norm(_ name: String) -> (gain: Parameter, shift: Parameter) {
            (table.parameter("\(name).weight"), table.parameter("\(name).bias"))
        }
        func linear(_ name: String, bias: String? = nil, norm: (Parameter, Parameter)? = nil, scale: Double = 1)
            -> LinearMap
        {
            LinearMap(
                weight: table.parameter("\(name).weight"), bias: table.parameter(bias ?? "\(name).bias"), norm: norm,
                scale: scale)
        }
        layers = (0..<configuration.layers).map { l in
            let layer = "transformer.layers.\(l)"
            return Layer(
                query: linear(
                    "\(layer).attn.query.linear", bias: "\(layer).attn.query_pos_bias",
                    norm: norm("\(layer).norm_self_attn"), scale: 1 / Double(configuration.headSize).squareRoot()),
                output: linear("\(layer).attn.output"),
                inner: linear("\(layer).feed_forward.layer1", norm: norm("\(layer).norm_ff")),
                outer: linear("\(layer).feed_forward.layer2"),
                embeddings: table.parameter("\(layer).attn.key_pos_embeddings"),
                positionBias: table.parameter("\(layer).attn.key_pos_bias"),
                queryBias: table.parameter("\(layer).attn.query_pos_bias"))
        }
        let attentions =
            configuration.keyValue == .shared
            ? ["transformer"] : (0..<configuration.layers).map { "transformer.layers.\($0).attn" }
        keyValue = attentions.map { prefix in
            // The value's weight follows the key's in the table: together they are one matrix.
            let key = table.parameter("\(prefix).key.linear.weight")
            let both = Parameter(
                name: "\(prefix).key+value", shape: [2 * key.rows, key.columns], offset: key.offset,
                initial: key.initial, decays: true)
            return LinearMap(
                weight: both, bias: table["\(prefix).value.linear.bias"],
                norm: configuration.memoryNorm == .none ? nil : norm("transformer.norm_memory"), scale: 1)
        }
        generator = linear("generator", norm: norm("transformer.norm"))
    }

    /// The parts of all parameters whose gradients depend on each other when they are unfolded (E3, E5).
    public var pieces: [Range<Int>] {
        func piece(_ maps: [LinearMap], and others: [Parameter] = []) -> Range<Int>? {
            let normed = maps.filter { $0.norm != nil }
            let parameters =
                normed.flatMap { [$0.weight, $0.norm!.gain, $0.norm!.shift] + ($0.bias.map { [$0] } ?? []) } + others
            guard let first = parameters.map(\.range.lowerBound).min() else { return nil }
            return first..<parameters.map(\.range.upperBound).max()!
        }
        let ofLayers = layers.flatMap { layer in
            [piece([layer.query], and: [layer.embeddings, layer.positionBias]), piece([layer.inner])]
        }
        return ([piece(keyValue), piece([generator])] + ofLayers).compactMap(\.self)
    }
}
