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
}
