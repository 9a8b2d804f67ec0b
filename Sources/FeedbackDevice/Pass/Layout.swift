import CDevice
import FeedbackTransformer

/// Hands out places in an array of the device that is yet to be made; each begins at a multiple of 64 numbers.
struct Arena {
    private(set) var count = 0

    mutating func take(_ numbers: Int) -> Int {
        defer { count += (numbers + 63) / 64 * 64 }
        return count
    }
    mutating func take(_ numbers: Int, times: Int) -> [Int] { (0..<times).map { _ in take(numbers) } }
}

/// The sizes of a pass: a segment of T steps of B rows, after what is carried; or one step of B sequences, each with
/// its own cache.
struct PassSizes {
    let model: ModelConfiguration
    let steps, batch: Int
    /// Slots kept for what is carried, and those of a row's cache.
    let carry, slots: Int
    /// The farthest offset at which a step sees a memory.
    let reach: Int
    let training: Bool
    /// Whether the attention's weights are kept; decoding has no use for them.
    let keepsProbabilities: Bool

    /// N = T·B.
    var rows: Int { steps * batch }
    /// Different memory vectors of a step.
    var vectors: Int { model.isRecurrent ? 1 : model.layers }

    init(_ model: ModelConfiguration, _ shape: BatchShape, training: Bool) {
        let window = min(shape.memoryWindow ?? .max, model.window)
        carry = min(shape.carry, window)
        (self.model, steps, batch) = (model, shape.steps, shape.batchSize)
        slots = carry + steps
        reach = min(window, slots)
        self.training = training
        keepsProbabilities = true
    }

    /// One step of up to so many sequences, each of which sees the last `window` of its memories.
    init(_ model: ModelConfiguration, sequences: Int, window: Int) {
        (self.model, steps, batch, carry) = (model, 1, sequences, 0)
        // One more: in a per-layer model a step's own key is written before the oldest is read.
        (slots, reach) = (window + 1, window)
        (training, keepsProbabilities) = (false, false)
    }
}

/// A linear map's places: W' and its transposed as operands, b' and db' in state.
struct MapPlaces {
    let packed, transposed, bias, biasGradient: Int
}

/// The weights of a model on a device: the parameters, and what is packed of them (E3, E5).
struct WeightLayout {
    struct Layer {
        let query, output, inner, outer: MapPlaces
        /// U, operand, by offset and across, and S̃, state: [H, reach, K], [H, K, reach] and [H, reach].
        let positions, positionsAcross, positionBias: Int
    }
    let parameters: Int
    /// a_l of E9.
    let layerWeights: Int
    let layers: [Layer]
    let keyValue: [MapPlaces]
    let generator: MapPlaces
    /// The maps and tables for the kernels that pack and unfold.
    let maps: [Map]
    let positions: [Positions]
    /// Units of work of packing, 16 outputs of a map each.
    let packUnits: Int
    /// Where all db' lie.
    let biasGradients: Range<Int>

    init(_ table: ParameterTable, reach: Int, training: Bool, _ state: inout Arena, _ operands: inout Arena) {
        let (model, linear) = (table.configuration, LinearMaps(table))
        parameters = state.take(table.count)
        layerWeights = state.take(model.layers + 1)
        let first = state.count
        let all =
            linear.keyValue + linear.layers.flatMap { [$0.query, $0.output, $0.inner, $0.outer] } + [linear.generator]
        let biasGradients = all.map { state.take($0.outputs) }
        self.biasGradients = first..<state.count
        var maps: [Map] = []
        var unit = 0
        func place(_ map: LinearMap, chained: Bool = false) -> MapPlaces {
            func padded(_ count: Int) -> Int { (count + 15) / 16 * 16 }
            let size = padded(map.outputs) * padded(map.inputs)
            let places = MapPlaces(
                packed: operands.take(size), transposed: operands.take(size), bias: state.take(map.outputs),
                biasGradient: biasGradients[maps.count])
            // A constant added to all keys changes no attention: of keys and values, the values' half alone counts.
            let isKeyValue = map.outputs == 2 * model.dModel && map.weight.name.hasSuffix(".key+value")
            maps.append(
                Map(
                    weight: map.weight.offset, bias: map.bias?.offset ?? -1, gain: map.norm?.gain.offset ?? -1,
                    shift: map.norm?.shift.offset ?? -1, packed: places.packed, transposed: places.transposed,
                    packedBias: places.bias, biasGradient: places.biasGradient, inputs: Int32(map.inputs),
                    outputs: Int32(map.outputs), biasCount: Int32(isKeyValue ? model.dModel : map.outputs),
                    chain: chained ? 1 : 0, scale: Float(map.scale), unit: Int32(unit)))
            unit += (map.outputs + 15) / 16
            return places
        }
        // Maps of keys and values have one norm together.
        keyValue = linear.keyValue.enumerated().map { place($1, chained: $0 + 1 < linear.keyValue.count) }
        var positions: [Positions] = []
        layers = linear.layers.map { layer in
            let bySlot = training ? operands.take(model.dModel * reach) : -1
            let (across, bias) = (operands.take(model.dModel * reach), state.take(model.heads * reach))
            positions.append(
                Positions(
                    embeddings: layer.embeddings.offset + (model.positions - 1) * model.dModel,
                    bias: layer.positionBias.offset + (model.positions - 1) * model.heads,
                    queryBias: layer.queryBias.offset, packed: bySlot, packedAcross: across, packedBias: bias))
            return Layer(
                query: place(layer.query), output: place(layer.output), inner: place(layer.inner),
                outer: place(layer.outer), positions: bySlot, positionsAcross: across, positionBias: bias)
        }
        generator = place(linear.generator)
        (self.maps, self.positions, packUnits) = (maps, positions, unit)
    }

    /// Units of work of unfolding, for so many inputs each.
    func unfoldUnits(_ size: Int) -> Int {
        maps.indices.reduce(0) { sum, index in
            index > 0 && maps[index - 1].chain == 1 ? sum : sum + (Int(maps[index].inputs) + size - 1) / size
        }
    }
}

/// Where everything of a pass lies: stashes, caches, deltas. All is time-major, [T·B, …].
struct PassLayout {
    struct Layer {
        // Forward: n, r, q̃, p, c of attention; n, r, h of the feed-forward block.
        let normalized, query, probabilities, context, innerNormalized, hidden: Int
        let deviation, innerDeviation: Int
        // Backward: do, dc, ds, dq̃ of attention; do, dh of the feed-forward block.
        let output, contextGradient, scores, queryGradient, outerOutput, hiddenGradient: Int
    }
    let sizes: PassSizes
    let layers: [Layer]
    /// x_0 … x_L, one after the other.
    let x: Int
    /// x between a layer's blocks; m, and later dm; logits.
    let middle, memory, logits: Int
    let normalized, deviation: Int
    /// Keys and values of every cache, across [rows, H, K, slots] and by slot [rows, H, slots, K]; of those not needed,
    /// -1.
    let keys, keysAcross, values, valuesAcross: [Int]
    /// The vectors that they are made of, [slots·B, D].
    let vectors, memoryDeviation: [Int]
    /// [groups · slices, reach].
    let scratch: Int
    let loss, correct: Int
    // Backward.
    let dLogits, dx, dMiddle, dNormalized, dQueryNormalized, dMemoryNormalized, dHead: Int
    /// [slots·B, 2D] of every cache.
    let dKeysValues: [Int]
    /// From one layer's places to the next one's, for vectors [N, D] and for scores.
    let layerStride, scoreStride: Int

    init(_ sizes: PassSizes, slices: Int, _ state: inout Arena, _ operands: inout Arena) {
        let (model, N) = (sizes.model, sizes.rows)
        let (D, F, L, H) = (model.dModel, model.dFF, model.layers, model.heads)
        let trained = sizes.training ? N : 0
        let scores = sizes.keepsProbabilities ? N * H * sizes.reach : 0
        func operand(_ count: Int) -> [Int] { operands.take(count, times: L) }
        // What is alike lies at equal distances.
        let (normalized, query, context) = (operand(N * D), operand(N * D), operand(N * D))
        let (inner, hidden, probabilities) = (operand(N * D), operand(N * F), operand(scores))
        let (output, dContext, dQuery) = (operand(trained * D), operand(trained * D), operand(trained * D))
        let (outer, dHidden) = (operand(trained * D), operand(trained * F))
        let dScores = operand(sizes.training ? scores : 0)
        let (deviation, innerDeviation) = (state.take(N, times: L), state.take(N, times: L))
        layers = (0..<L).map {
            Layer(
                normalized: normalized[$0], query: query[$0], probabilities: probabilities[$0], context: context[$0],
                innerNormalized: inner[$0], hidden: hidden[$0], deviation: deviation[$0],
                innerDeviation: innerDeviation[$0], output: output[$0], contextGradient: dContext[$0],
                scores: dScores[$0], queryGradient: dQuery[$0], outerOutput: outer[$0], hiddenGradient: dHidden[$0])
        }
        layerStride = L > 1 ? query[1] - query[0] : 0
        scoreStride = L > 1 ? probabilities[1] - probabilities[0] : 0
        x = state.take((L + 1) * N * D)
        (middle, memory, logits) = (state.take(N * D), state.take(N * D), state.take(N * model.vocabulary))
        (self.normalized, self.deviation) = (operands.take(N * D), state.take(N))
        vectors = operands.take((sizes.carry + sizes.steps) * sizes.batch * D, times: sizes.vectors)
        memoryDeviation = state.take(N, times: model.memoryNorm == .layer ? sizes.vectors : 0)
        let cache = sizes.batch * sizes.slots * D
        (keysAcross, values) = (operands.take(cache, times: model.caches), operands.take(cache, times: model.caches))
        let none = Array(repeating: -1, count: model.caches)
        keys = sizes.training ? operands.take(cache, times: model.caches) : none
        valuesAcross = sizes.training ? operands.take(cache, times: model.caches) : none
        scratch = state.take(slices * sizes.reach)
        (loss, correct) = (state.take(N), state.take(N))
        dLogits = operands.take(trained * model.vocabulary)
        (dx, dMiddle) = (state.take(trained * D), state.take(trained * D))
        (dNormalized, dQueryNormalized) = (state.take(trained * D), state.take(trained * D))
        (dMemoryNormalized, dHead) = (state.take(trained * D), state.take(trained * D))
        dKeysValues = operands.take(
            sizes.training ? (sizes.carry + sizes.steps) * sizes.batch * 2 * D : 0, times: model.caches)
        self.sizes = sizes
    }
}
