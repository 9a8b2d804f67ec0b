import FeedbackTransformer

/// A model's parameters as a decoder reads them.
struct DecodingWeights {
    struct Layer {
        let query: PanelLinear
        let output: PanelLinear
        let inner: PanelLinear
        let outer: PanelLinear
        var positions: DecodingPositions
    }

    /// How far back positions are packed: no step sees memories beyond.
    private(set) var reach: Int
    /// E, [V, D].
    let embedding: Matrix<State>
    private(set) var layers: [Layer] = []
    /// Keys and values: one map each for all layers, or for every layer.
    let keys, values: [PanelLinear]
    let generator: PanelLinear
    private let arena = DecodingArena()
    private var positionArena = DecodingArena()
    private let maps: LinearMaps
    private let parameters: Parameters
    private let precision: DecodingPrecision
    let portable: Bool

    init(_ parameters: Parameters, reach: Int, precision: DecodingPrecision, portable: Bool) {
        let (maps, arena) = (LinearMaps(parameters.table), arena)
        /// A map, or some of its outputs, whose bias the whole of it is.
        func linear(_ map: LinearMap, outputs: Range<Int>? = nil, biased: Bool = true) -> PanelLinear {
            let weight = parameters.buffer(of: map.weight)
            let bias = biased ? map.bias.map(parameters.buffer) : nil
            let norm = map.norm.map { (parameters.buffer(of: $0.gain), parameters.buffer(of: $0.shift)) }
            return withExtendedLifetime((weight, bias, norm)) {
                PanelLinear(
                    weight: weight.rows(outputs ?? 0..<map.outputs), bias: bias?.all,
                    norm: norm.map { NormParameters(gain: $0.0.all, shift: $0.1.all) }, scale: map.scale,
                    precision: precision, portable: portable, in: arena)
            }
        }
        embedding = arena.keep(parameters.buffer(of: parameters.table.parameter("src_embed.weight")))
        let width = parameters.table.configuration.dModel
        keys = maps.keyValue.map { linear($0, outputs: 0..<width, biased: false) }
        values = maps.keyValue.map { linear($0, outputs: width..<2 * width) }
        generator = linear(maps.generator)
        self.maps = maps
        self.parameters = parameters
        self.reach = reach
        self.precision = precision
        self.portable = portable
        layers = maps.layers.map { layer in
            Layer(
                query: linear(layer.query), output: linear(layer.output), inner: linear(layer.inner),
                outer: linear(layer.outer), positions: positions(layer))
        }
    }

    private func positions(_ layer: LinearMaps.Layer) -> DecodingPositions {
        let (embeddings, bias) = (parameters.buffer(of: layer.embeddings), parameters.buffer(of: layer.positionBias))
        let queryBias = parameters.buffer(of: layer.queryBias)
        let reachable = layer.embeddings.rows - reach..<layer.embeddings.rows
        return withExtendedLifetime((embeddings, bias, queryBias)) {
            DecodingPositions(
                embeddings: embeddings.rows(reachable), bias: bias.rows(reachable), queryBias: queryBias.all,
                scale: layer.query.scale, precision: precision, portable: portable, in: positionArena)
        }
    }

    /// Packs positions farther back, for a memory that has grown.
    mutating func extend(reach: Int) {
        self.reach = reach
        positionArena = DecodingArena()
        for l in layers.indices { layers[l].positions = positions(maps.layers[l]) }
    }
}

extension Parameters {
    /// A copy of a parameter's numbers for the decoder's kernels, in the shape of its matrix.
    func buffer(of parameter: Parameter) -> Buffer<State> {
        let buffer = decodingState(parameter.rows, parameter.columns)
        values.withUnsafeBufferPointer { values in
            buffer.all.floats.update(from: values.baseAddress! + parameter.offset, count: parameter.count)
        }
        return buffer
    }
}
