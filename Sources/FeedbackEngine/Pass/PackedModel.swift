import FeedbackTransformer

/// A linear map of the model, and its weights packed for products.
struct PackedMap<E: Executor>: Sendable {
    let packed: E.Linear
    let map: LinearMap

    init(_ map: LinearMap, _ executor: E) {
        packed = executor.makeLinear(inputs: map.inputs, outputs: map.outputs)
        self.map = map
    }

    /// Where the gradient of b' is summed up until `unfold`: the bias's own place, or the shift's for a map without a bias.
    func biasGradient(in store: ParameterStore) -> Matrix<State>? { (map.bias ?? map.norm?.shift).map(store.row) }

    func norm(in store: ParameterStore) -> NormParameters? {
        map.norm.map { NormParameters(gain: store.matrix($0.gain), shift: store.matrix($0.shift)) }
    }
}

/// The parameters of one layer, packed. A class: each copy of a structure would count some forty references, and every worker
/// would copy it at every step.
final class PackedLayer<E: Executor>: Sendable {
    let query, output, inner, outer: PackedMap<E>
    let positions: E.Positions
    let parameters: LinearMaps.Layer

    init(_ layer: LinearMaps.Layer, _ configuration: ModelConfiguration, reach: Int, _ executor: E) {
        query = PackedMap(layer.query, executor)
        output = PackedMap(layer.output, executor)
        inner = PackedMap(layer.inner, executor)
        outer = PackedMap(layer.outer, executor)
        positions = executor.makePositions(
            heads: configuration.heads, headSize: configuration.headSize, reach: reach)
        parameters = layer
    }
}

/// All parameters as the executors want them, made anew after every optimizer step.
///
/// Training's gradients come out in the terms of the packed maps; `unfold` turns them into gradients of the parameters.
final class PackedModel<E: Executor>: Sendable {
    let configuration: ModelConfiguration
    /// How far back positions are packed: no step sees memories beyond.
    private let reach: Int
    let layers: [PackedLayer<E>]
    /// One for all layers, or one each.
    let keyValue: [PackedMap<E>]
    let generator: PackedMap<E>
    private let maps: [PackedMap<E>]
    /// Holds db' of a map without a bias while it is unfolded; until then it is summed up in the shift's place.
    private let shiftGradient: Buffer<State>

    init(_ table: ParameterTable, reach: Int, executor: E) {
        let (configuration, linear) = (table.configuration, LinearMaps(table))
        layers = linear.layers.map { PackedLayer($0, configuration, reach: reach, executor) }
        keyValue = linear.keyValue.map { PackedMap($0, executor) }
        generator = PackedMap(linear.generator, executor)
        shiftGradient = executor.state(1, configuration.dModel)
        maps = keyValue + layers.flatMap { [$0.query, $0.output, $0.inner, $0.outer] } + [generator]
        self.configuration = configuration
        self.reach = reach
    }

    /// The last `reach` rows of a position table, nearest offset last.
    private func reachable(_ parameter: Parameter, in store: ParameterStore) -> Matrix<State> {
        store.matrix(parameter).rows(parameter.rows - reach..<parameter.rows)
    }

    /// One worker's share of packing every map and table.
    func pack(_ parameters: ParameterStore, _ executor: E, worker: Int, of workers: Int) {
        // Dealt out in turn: neighbours in the list differ in size.
        for index in stride(from: worker, to: maps.count, by: workers) {
            let map = maps[index]
            executor.pack(
                map.packed, weight: parameters.matrix(map.map.weight), bias: map.map.bias.map(parameters.row),
                norm: map.norm(in: parameters), scale: map.map.scale)
        }
        for index in stride(from: worker, to: layers.count, by: workers) {
            let layer = layers[index].parameters
            executor.pack(
                layers[index].positions, embeddings: reachable(layer.embeddings, in: parameters),
                bias: reachable(layer.positionBias, in: parameters), queryBias: parameters.row(layer.queryBias),
                scale: layer.query.scale)
        }
    }

    /// Adds one worker's position gradients to its gradient store.
    func flush(_ gradients: PositionGradients, layer: Int, into store: ParameterStore, executor: E) {
        executor.flush(
            gradients, embeddings: reachable(layers[layer].parameters.embeddings, in: store),
            bias: reachable(layers[layer].parameters.positionBias, in: store))
    }

    /// One worker's share of turning the summed gradients of packed maps into gradients of the parameters, in place: what E3
    /// calls unfolding, and dw of E9; of those parameters that this process owns.
    func unfoldMaps(
        _ gradient: ParameterStore, _ parameters: ParameterStore, _ executor: E, worker: Int, of workers: Int,
        _ owns: (Parameter) -> Bool
    ) {
        // Maps of keys and values may share their norm, so they are all the first worker's.
        if worker == 0 {
            for map in keyValue where owns(map.map.weight) { unfold(map, gradient, parameters, executor) }
            if let weights = parameters.table["transformer.weights"], owns(weights) {
                let da = gradient.matrix(weights)
                da.values = layerWeightsBackward(da.values, weights: memoryWeights(parameters))
            }
        }
        for index in stride(from: keyValue.count + worker, to: maps.count, by: workers)
        where owns(maps[index].map.weight) {
            unfold(maps[index], gradient, parameters, executor)
        }
    }

    /// The same for positions (E5), when all maps are unfolded.
    func unfoldPositions(
        _ gradient: ParameterStore, _ parameters: ParameterStore, _ executor: E, worker: Int, of workers: Int,
        _ owns: (Parameter) -> Bool
    ) {
        for index in stride(from: worker, to: layers.count, by: workers)
        where owns(layers[index].parameters.queryBias) {
            let layer = layers[index].parameters
            executor.unfoldPositions(
                reachable(layer.embeddings, in: gradient), dBias: reachable(layer.positionBias, in: gradient),
                dQueryBias: gradient.row(layer.queryBias), embeddings: reachable(layer.embeddings, in: parameters),
                queryBias: parameters.row(layer.queryBias), scale: layer.query.scale)
        }
    }

    private func unfold(_ map: PackedMap<E>, _ gradient: ParameterStore, _ parameters: ParameterStore, _ executor: E) {
        if map.map.norm == nil && map.map.scale == 1 { return }
        var dBias = map.biasGradient(in: gradient)
        if map.map.bias == nil, let collected = dBias {
            executor.copy(collected, into: shiftGradient.all)
            collected.clear()
            dBias = shiftGradient.all
        }
        executor.unfold(
            gradient.matrix(map.map.weight), dBias: dBias, weight: parameters.matrix(map.map.weight),
            norm: map.norm(in: parameters), scale: map.map.scale, accumulatingInto: map.norm(in: gradient))
    }

    /// a_l of E9.
    func memoryWeights(_ parameters: ParameterStore) -> [Double] {
        configuration.memoryWeights(parameters["transformer.weights"])
    }
}
