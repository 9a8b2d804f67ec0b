import CDevice
import FeedbackTransformer

// The gradients that answer `forward`, as phases: its steps in reverse, from the last block to the first.
//
//   once         4   dn of the logits                                                                        E3
//   every block  3   dk, dv from all later steps | dn of the memory                                          E5, E7, E3
//                2   for every layer, last to first:  dh | dn | dc | dq̃, ds | dn                             E4, E8
//   once             dn of the first layer's queries | dx_0, and dk, dv of what was carried over             E8, E5
//
// Whatever adds to dx is summed up by the product that reads it next (`READ_GRADIENT`): there LayerNorm's backward pass
// (E2) and the memory's share (E9) cost no meeting of their own. How the gradient of a memory comes from all later
// steps: those have kept ds, p̂, q̃ and dc, and when its own step is reached, its keys' and values' gradients are
// gathered from them, in their order.

extension PassPhases {
    private var width: Int { model.dModel }
    /// The factor a_l of E9.
    private func weight(_ l: Int) -> Int { weights.layerWeights + l }

    private func term(_ gradient: Int, _ normalized: Int = -1, _ deviation: Int = -1, factor: Int = -1) -> Term {
        Term(gradient: gradient, normalized: normalized, deviation: deviation, factor: factor)
    }

    /// dm of a block, or where each layer has its own memories, what a layer's add to dx.
    private func memoryTerm(_ vectors: Int, _ gradient: Int, factor: Int = -1) -> Term {
        model.memoryNorm == .layer
            ? term(
                gradient, layout.vectors[vectors] + carried * sizes.batch * width, layout.memoryDeviation[vectors],
                factor: factor)
            : term(gradient, factor: factor)
    }

    func backward() -> PhaseList {
        var list = PhaseList()
        list.before.append(  // 4
            .product(
                all, inputs: model.vocabulary, outputs: width, weight: weights.generator.transposed,
                read: READ_OPERAND, from: layout.dLogits, write: WRITE_STATE,
                to: layout.dHead))
        if model.isRecurrent {  // 3
            let slots = PhaseRows(first: carried * sizes.batch, perStep: sizes.batch, count: sizes.batch)
            for cache in layout.keys.indices { list.body.append(gather(cache, slots)) }
            for cache in layout.keys.indices { list.body.append(memoryGradient(cache, adding: cache > 0)) }
        }
        for l in (0..<model.layers).reversed() {  // 2
            list.body += layer(l)
            if model.isRecurrent {
                if l > 0 { list.body.append(queryGradient(l, block)) }
            } else {
                let slots = PhaseRows(first: carried * sizes.batch, count: sizes.rows)
                list.body += [queryGradient(l, block), gather(l, slots), memoryGradient(l, adding: false)]
            }
        }
        if model.isRecurrent { list.after.append(queryGradient(0, all)) }
        // 1: dx_0, which the embedding's gradient is made of.
        var sum = Phase.product(
            all, inputs: width, outputs: 0, weight: 0, read: READ_GRADIENT, from: layout.dMiddle,
            write: WRITE_STATE)
        sum.terms = incoming(after: 0)
        sum.sum = layout.dx
        list.after.append(sum)
        if carried > 0 {
            for cache in layout.keys.indices {
                list.after.append(gather(cache, PhaseRows(count: carried * sizes.batch)))
            }
        }
        return list
    }

    /// What is added to dMiddle of layer l to give dx_l: from its queries, and from the memory.
    private func incoming(after l: Int) -> (Term, Term) {
        let own = layout.layers[l]
        return (
            term(layout.dQueryNormalized, own.normalized, own.deviation),
            model.isRecurrent
                ? term(layout.memory, factor: weight(l)) : memoryTerm(l, layout.dMemoryNormalized)
        )
    }

    /// E4 and E8 backward, but for the last product, which `queryGradient` is.
    private func layer(_ l: Int) -> [Phase] {
        let (maps, own, F) = (weights.layers[l], layout.layers[l], model.dFF)
        // E4, 3: dx is summed up, do = drop(dx), dh = drop(do W2) ∘ [h > 0]
        var hidden = Phase.product(
            block, inputs: width, outputs: F, weight: maps.outer.transposed, read: READ_GRADIENT,
            from: layout.dMiddle, write: WRITE_RECTIFIED_GRADIENT, to: own.hiddenGradient)
        if l < model.layers - 1 {
            hidden.terms = incoming(after: l + 1)
        } else {
            hidden.source = -1
            hidden.terms.0 = term(layout.dHead, layout.normalized, layout.deviation)
            if model.isRecurrent {
                hidden.terms.1 = memoryTerm(0, layout.dMemoryNormalized, factor: weight(l + 1))
                hidden.lastTerm = layout.memory  // dm
            }
        }
        (hidden.sum, hidden.droppedSum, hidden.gate) = (layout.dx, own.outerOutput, own.hidden)
        (hidden.layer, hidden.readPlace, hidden.writePlace) = (Int32(l), 3, 2)
        // E4, 2: dn = dh W1'
        let inner = Phase.product(
            block, inputs: F, outputs: width, weight: maps.inner.transposed, read: READ_OPERAND,
            from: own.hiddenGradient, write: WRITE_STATE, to: layout.dNormalized)
        // E4, 1, and E8, 4: dx += LayerNorm backward of dn, do = drop(dx), dc = do Wo
        var context = Phase.product(
            block, inputs: width, outputs: width, weight: maps.output.transposed, read: READ_GRADIENT,
            from: layout.dx, write: WRITE_OPERAND, to: own.contextGradient)
        context.terms.0 = term(layout.dNormalized, own.innerNormalized, own.innerDeviation)
        (context.sum, context.droppedSum, context.attention) = (layout.dMiddle, own.output, 1)
        (context.layer, context.readPlace) = (Int32(l), 1)
        return [hidden, inner, context, attention(ATTEND_BACKWARD, l)]  // E8, 3
    }

    /// E8, 2: dn = dq̃ Wq'.
    private func queryGradient(_ l: Int, _ rows: PhaseRows) -> Phase {
        .product(
            rows, inputs: width, outputs: width, weight: weights.layers[l].query.transposed, read: READ_OPERAND,
            from: layout.layers[l].queryGradient, write: WRITE_STATE, to: layout.dQueryNormalized)
    }

    /// dk and dv of some slots of a cache, from all later steps of all layers that read it.
    private func gather(_ cache: Int, _ slots: PhaseRows) -> Phase {
        var phase = Phase(GATHER, slots)
        let layers = layout.keys.count == 1 ? 0..<model.layers : cache..<cache + 1
        let first = layout.layers[layers.lowerBound]
        phase.layers = Int32(layers.count)
        (phase.query, phase.contextGradient) = (first.query, first.contextGradient)
        (phase.probabilities, phase.scoreGradients) = (first.probabilities, first.scores)
        (phase.layerStride, phase.scoreStride) = (layout.layerStride, layout.scoreStride)
        phase.result = layout.dKeysValues[cache]
        return phase
    }

    /// dn of a block's memories: dn = dk Wk' + dv Wv', summed over the caches where all are made of one vector.
    private func memoryGradient(_ cache: Int, adding: Bool) -> Phase {
        .product(
            block, inputs: 2 * width, outputs: width,
            weight: weights.keyValue[weights.keyValue.count == 1 ? 0 : cache].transposed,
            read: READ_OPERAND,
            from: layout.dKeysValues[cache] + carried * sizes.batch * 2 * width,
            write: adding ? ADD_STATE : WRITE_STATE, to: layout.dMemoryNormalized)
    }
}
