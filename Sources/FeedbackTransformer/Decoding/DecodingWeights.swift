import FeedbackEngine

/// A model's parameters as a decoder reads them; the same maps as `PackedModel`'s, forward only.
struct DecodingWeights {
    struct Layer {
        /// q̃ = K^-½ (Wq LN(x) + u).
        let query: PanelLinear
        let output: PanelLinear
        let inner: PanelLinear
        let outer: PanelLinear
        var positions: DecodingPositions
    }

    /// How far back positions are packed: no step sees memories beyond.
    private(set) var reach: Int
    private(set) var layers: [Layer] = []
    /// Keys and values: one map each for all layers, or for every layer.
    let keys, values: [PanelLinear]
    let generator: PanelLinear
    private let arena = DecodingArena()
    private var positionArena = DecodingArena()
    private let model: FeedbackModel
    private let precision: DecodingPrecision
    let portable: Bool

    init(_ model: FeedbackModel, reach: Int, precision: DecodingPrecision, portable: Bool) {
        let (parameters, configuration, arena) = (model.parameters, model.configuration, arena)
        func linear(_ prefix: String, bias: String? = nil, norm: String? = nil, scale: Double = 1) -> PanelLinear {
            let bias = bias ?? "\(prefix).bias"
            return PanelLinear(
                weight: parameters.matrix("\(prefix).weight"),
                bias: parameters.table[bias] == nil ? nil : parameters.matrix(bias),
                norm: norm.map {
                    NormParameters(gain: parameters.matrix("\($0).weight"), shift: parameters.matrix("\($0).bias"))
                }, scale: scale, precision: precision, portable: portable, in: arena)
        }
        let attentions =
            configuration.keyValue == .shared
            ? ["transformer"] : (0..<configuration.layers).map { "transformer.layers.\($0).attn" }
        let norm = configuration.memoryNorm == .none ? nil : "transformer.norm_memory"
        keys = attentions.map { linear("\($0).key.linear", norm: norm) }
        values = attentions.map { linear("\($0).value.linear", norm: norm) }
        generator = linear("generator", norm: "transformer.norm")
        self.model = model
        self.reach = reach
        self.precision = precision
        self.portable = portable
        layers = (0..<configuration.layers).map { l in
            let layer = "transformer.layers.\(l)"
            return Layer(
                query: linear(
                    "\(layer).attn.query.linear", bias: "\(layer).attn.query_pos_bias",
                    norm: "\(layer).norm_self_attn", scale: queryScale),
                output: linear("\(layer).attn.output"),
                inner: linear("\(layer).feed_forward.layer1", norm: "\(layer).norm_ff"),
                outer: linear("\(layer).feed_forward.layer2"), positions: positions(l))
        }
    }

    /// K^-½.
    private var queryScale: Double { 1 / Double(model.configuration.headSize).squareRoot() }

    private func positions(_ l: Int) -> DecodingPositions {
        func matrix(_ name: String) -> Matrix<State> {
            model.parameters.matrix("transformer.layers.\(l).attn.\(name)")
        }
        let (embeddings, bias) = (matrix("key_pos_embeddings"), matrix("key_pos_bias"))
        return DecodingPositions(
            embeddings: embeddings.rows(embeddings.rows - reach..<embeddings.rows),
            bias: bias.rows(bias.rows - reach..<bias.rows), queryBias: matrix("query_pos_bias"), scale: queryScale,
            precision: precision, portable: portable, in: positionArena)
    }

    /// Packs positions farther back, for a memory that has grown.
    mutating func extend(reach: Int) {
        self.reach = reach
        positionArena = DecodingArena()
        for l in layers.indices { layers[l].positions = positions(l) }
    }
}
