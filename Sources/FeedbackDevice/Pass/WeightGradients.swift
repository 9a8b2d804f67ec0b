import CDevice
import FeedbackTransformer

// E3 and E5: what is summed over all rows of a batch when its backward pass has ended, as one list of products dW' +=
// dyᵀ x.

/// The list, cut into square tiles.
struct WeightGradients {
    /// Outputs and inputs of a tile.
    let side: Int
    private(set) var all: [WeightGradient] = []
    private(set) var tiles = 0

    init(side: Int) { self.side = side }

    /// - Parameter continues: whether it adds to the same weights as the one before it, and so in the same tiles.
    mutating func add(_ gradient: WeightGradient, continues: Bool = false) {
        var gradient = gradient
        gradient.tile = Int32(tiles)
        all.append(gradient)
        if continues {
            all[all.count - 2].more = 1
            return
        }
        tiles += (Int(gradient.outputs) + side - 1) / side * ((Int(gradient.inputs) + side - 1) / side)
    }
}

extension PassPhases {
    /// - Parameters:
    ///   - gradient: where the gradient of all parameters lies, in state.
    ///   - sums: the list.
    func addWeightGradients(_ gradient: Int, to sums: inout WeightGradients) {
        let (D, F, H, K, N) = (model.dModel, model.dFF, model.heads, model.headSize, sizes.rows)
        var map = 0
        func add(
            _ places: MapPlaces, _ delta: Int, _ input: Int, outputs: Int, inputs: Int, rows: Int,
            continues: Bool = false
        ) {
            sums.add(
                WeightGradient(
                    delta: delta, input: input, output: gradient + weights.maps[map].weight, bias: places.biasGradient,
                    deltaStride: outputs, inputStride: inputs, outputStride: inputs, biasStride: 1, rows: Int32(rows),
                    outputs: Int32(outputs), inputs: Int32(inputs), tile: 0, more: 0),
                continues: continues)
        }
        // In the order of `WeightLayout.maps`. Several caches may be of one map.
        let slots = (carried + sizes.steps) * sizes.batch
        for cache in layout.keys.indices {
            map = weights.keyValue.count == 1 ? 0 : cache
            add(
                weights.keyValue[map], layout.dKeysValues[cache],
                layout.vectors[layout.vectors.count == 1 ? 0 : cache], outputs: 2 * D, inputs: D, rows: slots,
                continues: weights.keyValue.count == 1 && cache > 0)
        }
        map = weights.keyValue.count
        for (l, places) in weights.layers.enumerated() {
            let own = layout.layers[l]
            add(places.query, own.queryGradient, own.normalized, outputs: D, inputs: D, rows: N)
            map += 1
            add(places.output, own.output, own.context, outputs: D, inputs: D, rows: N)
            map += 1
            add(places.inner, own.hiddenGradient, own.innerNormalized, outputs: F, inputs: D, rows: N)
            map += 1
            add(places.outer, own.outerOutput, own.hidden, outputs: D, inputs: F, rows: N)
            map += 1
            // dŨ_o = Σ ds_o q̃ and dS̃_o = Σ ds_o: the row of offset 1 is the last.
            for head in 0..<H {
                sums.add(
                    WeightGradient(
                        delta: own.scores + head * sizes.reach, input: own.query + head * K,
                        output: gradient + weights.positions[l].embeddings + head * K,
                        bias: gradient + weights.positions[l].bias + head, deltaStride: H * sizes.reach, inputStride: D,
                        outputStride: -D, biasStride: -H, rows: Int32(N), outputs: Int32(sizes.reach),
                        inputs: Int32(K), tile: 0, more: 0))
            }
        }
        add(
            weights.generator, layout.dLogits, layout.normalized, outputs: model.vocabulary, inputs: D, rows: N)
    }
}
