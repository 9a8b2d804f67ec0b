import CDevice
import FeedbackTransformer

// The model over the T steps of a segment, forward, as phases; the steps are those of Segment.swift, E-numbers those of
// Documentation/Equations.md. Between two phases all groups meet: five times a layer, and once for the memory.
//
//   once         3   k, v of the memories carried over                                                        E3
//                1   x_0 = E[token],  q̃ of the first layer                                                    E1, E8
//   every block  2   for every layer:  q̃ | c | x += c Woᵀ + bo | h = max(0, …) | x += h W2ᵀ + b2, m  E8, E4, E9
//                3   k, v of m or LN(m)                                                                       E2, E3
//   once         4   logits, and the loss                                                             E2, E3, E10

/// A model's pass on a device, written as phases.
struct PassPhases {
    let weights: WeightLayout
    let layout: PassLayout
    /// Slots carried over from the segment before.
    var carried = 0
    /// The rows of a step that does not have all.
    var rows: Int?

    var sizes: PassSizes { layout.sizes }
    var model: ModelConfiguration { sizes.model }
    private var width: Int { model.dModel }
    var all: PhaseRows { PhaseRows(count: rows ?? sizes.rows) }
    /// The rows of a block: a step's, where the next step needs its memory.
    var block: PhaseRows {
        model.isRecurrent ? PhaseRows(perStep: sizes.batch, count: rows ?? sizes.batch) : all
    }
    /// Where x_l lies.
    func x(_ l: Int) -> Int { layout.x + l * sizes.rows * width }
    /// The cache that a layer reads.
    func cache(layer: Int) -> Int { layout.keys.count == 1 ? 0 : layer }

    /// - Parameter hasLoss: whether the loss follows the logits; in training its gradient too.
    func forward(hasLoss: Bool) -> PhaseList {
        var list = PhaseList()
        if carried > 0 {
            for cache in layout.keys.indices { list.before.append(carriedKeysValues(cache)) }
        }
        var embed = Phase(EMBED, all)
        (embed.source, embed.result) = (weights.parameters, x(0))
        list.before.append(embed)  // 1
        if model.isRecurrent { list.before.append(query(0, all)) }
        for l in 0..<model.layers {  // 2
            if !model.isRecurrent { list.body.append(keysValues(l, of: x(l))) }  // 3
            if l > 0 || !model.isRecurrent { list.body.append(query(l, block)) }
            list.body += layer(l)
        }
        if model.isRecurrent {  // 3
            for cache in layout.keys.indices { list.body.append(keysValues(cache, of: layout.memory)) }
        }
        var logits = Phase.product(  // 4
            all, inputs: width, outputs: model.vocabulary, weight: weights.generator.packed,
            bias: weights.generator.bias,
            read: READ_STATE, from: x(model.layers), write: WRITE_STATE, to: layout.logits)
        (logits.normalized, logits.deviation) = (layout.normalized, layout.deviation)
        list.after.append(logits)
        if hasLoss {
            var phase = Phase(CROSS_ENTROPY, all)
            (phase.source, phase.result, phase.sum) = (layout.logits, layout.loss, layout.correct)
            if sizes.training { phase.droppedSum = layout.dLogits }
            list.after.append(phase)
        }
        return list
    }

    /// E8, 1 and 2: q̃ = LN(x) Wq'ᵀ + b'.
    private func query(_ l: Int, _ rows: PhaseRows) -> Phase {
        let (map, own) = (weights.layers[l].query, layout.layers[l])
        var phase = Phase.product(
            rows, inputs: width, outputs: width, weight: map.packed, bias: map.bias, read: READ_STATE, from: x(l),
            write: WRITE_OPERAND, to: own.query)
        (phase.normalized, phase.deviation) = (own.normalized, own.deviation)
        return phase
    }

    /// What follows the query: E8, 3 and 4, and E4.
    private func layer(_ l: Int) -> [Phase] {
        let (maps, own, F) = (weights.layers[l], layout.layers[l], model.dFF)
        let attend = attention(ATTEND, l)
        var output = Phase.product(
            block, inputs: width, outputs: width, weight: maps.output.packed, bias: maps.output.bias,
            read: READ_OPERAND, from: own.context, write: WRITE_RESIDUAL, to: layout.middle)
        (output.residual, output.attention) = (x(l), 1)
        (output.layer, output.writePlace) = (Int32(l), 1)
        var inner = Phase.product(
            block, inputs: width, outputs: F, weight: maps.inner.packed, bias: maps.inner.bias,
            read: READ_STATE, from: layout.middle, write: WRITE_RECTIFIED, to: own.hidden)
        (inner.normalized, inner.deviation) = (own.innerNormalized, own.innerDeviation)
        (inner.layer, inner.writePlace) = (Int32(l), 2)
        var outer = Phase.product(
            block, inputs: F, outputs: width, weight: maps.outer.packed, bias: maps.outer.bias,
            read: READ_OPERAND, from: own.hidden, write: WRITE_RESIDUAL, to: x(l + 1))
        outer.residual = layout.middle
        (outer.layer, outer.writePlace) = (Int32(l), 3)
        if model.isRecurrent && l == model.layers - 1 {
            (outer.layerOutputs, outer.memory) = (layout.x, layout.memory)
        }
        return [attend, output, inner, outer]
    }

    /// A phase of a layer's attention, forward or backward.
    func attention(_ kind: Int, _ l: Int) -> Phase {
        let (maps, own) = (weights.layers[l], layout.layers[l])
        var phase = Phase(kind, block)
        phase.layer = Int32(l)
        (phase.query, phase.context) = (own.query, own.context)
        phase.place(cache(layer: l), layout)
        (phase.positions, phase.positionsAcross) = (maps.positions, maps.positionsAcross)
        phase.positionBias = maps.positionBias
        phase.probabilities = sizes.keepsProbabilities ? own.probabilities : -1
        phase.scratch = layout.scratch
        (phase.contextGradient, phase.scoreGradients) = (own.contextGradient, own.scores)
        phase.queryGradient = own.queryGradient
        return phase
    }

    /// Step 3: the vectors of a block's memories, normalised where the model says so, and their keys and values.
    private func keysValues(_ cache: Int, of source: Int) -> Phase {
        var phase = keysValues(cache, block, read: READ_STATE, from: source)
        let vectors = layout.vectors.count == 1 ? 0 : cache
        phase.normalized = layout.vectors[vectors] + carried * sizes.batch * width
        phase.deviation = model.memoryNorm == .layer ? layout.memoryDeviation[vectors] : -1
        return phase
    }

    /// Step 3 for what is carried over: keys and values anew, with the weights as they are now.
    private func carriedKeysValues(_ cache: Int) -> Phase {
        let vectors = layout.vectors[layout.vectors.count == 1 ? 0 : cache]
        var phase = keysValues(
            cache, PhaseRows(count: carried * sizes.batch), read: READ_OPERAND, from: vectors)
        phase.ofCarried = 1
        return phase
    }

    private func keysValues(_ cache: Int, _ rows: PhaseRows, read: Int, from source: Int) -> Phase {
        let map = weights.keyValue[weights.keyValue.count == 1 ? 0 : cache]
        var phase = Phase.product(
            rows, inputs: width, outputs: 2 * width, weight: map.packed, bias: map.bias, read: read, from: source,
            write: WRITE_KEYS_VALUES)
        phase.place(cache, layout)
        return phase
    }
}
