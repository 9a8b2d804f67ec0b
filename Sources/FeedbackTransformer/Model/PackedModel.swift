import FeedbackEngine

/// One linear map of the model: which parameters it is made of, and its weights packed for products.
struct LinearMap {
    let packed: PackedLinear
    let weight: Parameter
    var bias: Parameter?
    /// Gain and shift of the LayerNorm before it.
    var norm: (gain: Parameter, shift: Parameter)?
    var scale = 1.0

    /// Where the gradient of b' is summed up until `unfold`: the bias's own place, or the shift's for a map without a bias.
    var biasGradient: Parameter? { bias ?? norm?.shift }

    func norm(in store: ParameterStore) -> NormParameters? {
        norm.map { NormParameters(gain: store.matrix($0.gain), shift: store.matrix($0.shift)) }
    }
}

/// The parameters of one layer, packed. A class: each copy of a structure would count some forty references, and every worker
/// would copy it at every step.
final class PackedLayer: Sendable {
    /// q̃ = K^-½ (Wq LN(x) + u).
    let query: LinearMap
    let output: LinearMap
    let inner: LinearMap
    let outer: LinearMap
    let positions: PackedPositions
    let embeddings, positionBias, queryBias: Parameter

    var feedForward: FeedForwardWeights { FeedForwardWeights(inner: inner.packed, outer: outer.packed) }

    init(
        query: LinearMap, output: LinearMap, inner: LinearMap, outer: LinearMap, positions: PackedPositions,
        embeddings: Parameter, positionBias: Parameter, queryBias: Parameter
    ) {
        (self.query, self.output, self.inner, self.outer) = (query, output, inner, outer)
        (self.positions, self.embeddings) = (positions, embeddings)
        (self.positionBias, self.queryBias) = (positionBias, queryBias)
    }
}

/// All parameters as the executors want them, made anew after every optimizer step.
///
/// Training's gradients come out in the terms of the packed maps; `unfold` turns them into gradients of the parameters.
final class PackedModel: @unchecked Sendable {
    let configuration: ModelConfiguration
    /// How far back positions are packed: no step sees memories beyond.
    let reach: Int
    let layers: [PackedLayer]
    /// One for all layers, or one each.
    let keyValue: [LinearMap]
    let generator: LinearMap
    private let table: ParameterTable
    private let maps: [LinearMap]
    /// Holds db' of a map without a bias while it is unfolded; until then it is summed up in the shift's place.
    private let shiftGradient: Buffer<State>

    init(_ table: ParameterTable, reach: Int, executor: any Executor) {
        let configuration = table.configuration
        let (D, F, V) = (configuration.dModel, configuration.dFF, configuration.vocabulary)
        func linear(
            _ prefix: String, _ outputs: Int, _ inputs: Int, bias: String? = nil, norm: String? = nil, scale: Double = 1
        ) -> LinearMap {
            LinearMap(
                packed: executor.makeLinear(inputs: inputs, outputs: outputs),
                weight: table.parameter("\(prefix).weight"), bias: table.parameter(bias ?? "\(prefix).bias"),
                norm: norm.map { (table.parameter("\($0).weight"), table.parameter("\($0).bias")) }, scale: scale)
        }
        layers = (0..<configuration.layers).map { l in
            let layer = "transformer.layers.\(l)"
            return PackedLayer(
                query: linear(
                    "\(layer).attn.query.linear", D, D, bias: "\(layer).attn.query_pos_bias",
                    norm: "\(layer).norm_self_attn", scale: 1 / Double(configuration.headSize).squareRoot()),
                output: linear("\(layer).attn.output", D, D),
                inner: linear("\(layer).feed_forward.layer1", F, D, norm: "\(layer).norm_ff"),
                outer: linear("\(layer).feed_forward.layer2", D, F),
                positions: executor.makePositions(
                    heads: configuration.heads, headSize: configuration.headSize, reach: reach),
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
                name: "\(prefix).key+value", shape: [2 * D, D], offset: key.offset, initial: key.initial, decays: true)
            return LinearMap(
                packed: executor.makeLinear(inputs: D, outputs: 2 * D), weight: both,
                bias: table["\(prefix).value.linear.bias"],
                norm: configuration.memoryNorm == .none
                    ? nil
                    : (
                        table.parameter("transformer.norm_memory.weight"),
                        table.parameter("transformer.norm_memory.bias")
                    )
            )
        }
        generator = linear("generator", V, D, norm: "transformer.norm")
        shiftGradient = executor.state(1, D)
        maps = keyValue + layers.flatMap { [$0.query, $0.output, $0.inner, $0.outer] } + [generator]
        self.configuration = configuration
        self.table = table
        self.reach = reach
    }

    /// The last `reach` rows of a position table, nearest offset last.
    private func reachable(_ parameter: Parameter, in store: ParameterStore) -> Matrix<State> {
        store.matrix(parameter).rows(parameter.rows - reach..<parameter.rows)
    }

    /// Packs every map and table, shared out over the workers.
    func pack(_ parameters: ParameterStore, executors: [any Executor], pool: WorkerPool) {
        let executors = Unchecked(executors)
        pool.run { worker in
            let executor = executors.value[worker]
            // Dealt out in turn: neighbours in the list differ in size.
            for index in stride(from: worker, to: maps.count, by: pool.count) {
                let map = maps[index]
                executor.pack(
                    map.packed, weight: parameters.matrix(map.weight), bias: map.bias.map(parameters.matrix),
                    norm: map.norm(in: parameters), scale: map.scale)
            }
            for index in stride(from: worker, to: layers.count, by: pool.count) {
                packPositions(layers[index], parameters, executor: executor)
            }
        }
    }

    private func packPositions(_ layer: PackedLayer, _ parameters: ParameterStore, executor: any Executor) {
        executor.pack(
            layer.positions, embeddings: reachable(layer.embeddings, in: parameters),
            bias: reachable(layer.positionBias, in: parameters),
            queryBias: parameters.matrix(layer.queryBias).shaped(1, configuration.dModel), scale: layer.query.scale)
    }

    /// Adds one worker's position gradients to its gradient store.
    func flush(_ gradients: PositionGradients, layer: Int, into store: ParameterStore, executor: any Executor) {
        executor.flush(
            gradients, embeddings: reachable(layers[layer].embeddings, in: store),
            bias: reachable(layers[layer].positionBias, in: store))
    }

    /// Turns the summed gradients of packed maps into gradients of the parameters, in place: what E3 and E5 call unfolding,
    /// and dw of E9.
    func unfold(_ gradient: ParameterStore, parameters: ParameterStore, executors: [any Executor], pool: WorkerPool) {
        let executors = Unchecked(executors)
        pool.run { worker in
            let executor = executors.value[worker]
            // Maps of keys and values may share their norm, so they are all the first worker's.
            if worker == 0 { for map in keyValue { unfold(map, gradient, parameters, executor) } }
            for index in stride(from: keyValue.count + worker, to: maps.count, by: pool.count) {
                unfold(maps[index], gradient, parameters, executor)
            }
        }
        pool.run { worker in
            for index in stride(from: worker, to: layers.count, by: pool.count) {
                let layer = layers[index]
                executors.value[worker].unfoldPositions(
                    reachable(layer.embeddings, in: gradient), dBias: reachable(layer.positionBias, in: gradient),
                    dQueryBias: gradient.matrix(layer.queryBias).shaped(1, configuration.dModel),
                    embeddings: reachable(layer.embeddings, in: parameters),
                    queryBias: parameters.matrix(layer.queryBias).shaped(1, configuration.dModel),
                    scale: layer.query.scale)
            }
        }
        if configuration.memory == .feedback {
            let weights = table.parameter("transformer.weights")
            let da = gradient.matrix(weights)
            da.values = layerWeightsBackward(da.values, weights: layerWeights(parameters.matrix(weights)))
        }
    }

    private func unfold(
        _ map: LinearMap, _ gradient: ParameterStore, _ parameters: ParameterStore, _ executor: any Executor
    ) {
        if map.norm == nil && map.scale == 1 { return }
        var dBias = map.biasGradient.map { gradient.matrix($0).shaped(1, $0.count) }
        if map.bias == nil, let collected = dBias {
            executor.copy(collected, into: shiftGradient.all)
            collected.clear()
            dBias = shiftGradient.all
        }
        executor.unfold(
            gradient.matrix(map.weight), dBias: dBias, weight: parameters.matrix(map.weight),
            norm: map.norm(in: parameters), scale: map.scale, accumulatingInto: map.norm(in: gradient))
    }

    /// a_l: how much of each layer's output is in a memory; empty where the memory is the layers' own inputs.
    func memoryWeights(_ parameters: ParameterStore) -> [Double] {
        switch configuration.memory {
        case .feedback: layerWeights(parameters.matrix("transformer.weights"))
        case .feedbackLast: Array(repeating: 0, count: configuration.layers) + [1]
        case .perLayer: []
        }
    }
}
