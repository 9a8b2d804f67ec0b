import FeedbackTransformer

extension Segment {
    /// The gradients that answer `forward`, for dlogits [T·R, V]: added to one worker's store, in the terms of the packed
    /// maps (`PackedModel.unfold`). The steps are those of `forward`, in reverse.
    func backward(
        _ tile: Tile, tokens: [Int32], dLogits: Matrix<State>, dropout: Dropout?,
        accumulatingInto gradient: ParameterStore
    ) {
        let all = rows(0..<shape.steps, of: tile)
        let weights = packed.memoryWeights(parameters)
        var dWeights = Array(repeating: 0.0, count: weights.count)

        // 4, for all steps at once.
        let dx = workspace.dx.rows(all)
        let dz = workspace.dLogits.rows(all)
        let dNormalized = workspace.dNormalized.rows(all)
        executor.convert(dLogits, into: dz)
        executor.linearBackward(dz, packed.generator.packed, into: dNormalized)  // E3
        dx.clear()
        executor.normalizeBackward(  // E2
            dNormalized, normalized: workspace.normalized.rows(all),
            inverseDeviation: workspace.inverseDeviation.rows(all), accumulatingInto: dx)
        gradients(dz, workspace.normalized.rows(all), of: packed.generator, accumulatingInto: gradient)

        // 3 and 2, from the last block to the first; the sums over steps a chunk, or a span, of them at a time.
        for cache in workspace.caches { executor.clearGradients(cache) }
        for span in ranges(of: 0..<shape.steps, by: workspace.span).reversed() {
            for chunk in ranges(of: span, by: shape.chunk).reversed() {
                for block in ranges(of: chunk, by: shape.block).reversed() {
                    backward(block, of: chunk, in: span, tile, dropout, weights: weights, accumulatingInto: &dWeights)
                }
                gatherChunk(chunk, in: span, tile)
            }
            gradients(span, tile, accumulatingInto: gradient)
        }
        if model.memory == .feedback {
            let da = gradient.matrix("transformer.weights")
            for (l, value) in dWeights.enumerated() { da[l] += value }
        }
        for (l, sums) in workspace.positionGradients.enumerated() {
            packed.flush(sums, layer: l, into: gradient, executor: executor)
        }

        // 1, for all steps at once.
        executor.timed(.embeddingAndLoss) {
            executor.embedBackward(dx, tokens: tokens, accumulatingInto: gradient.matrix("src_embed.weight"))  // E1
        }

        // 3, for the memories carried over: the key and value weights learn from them, but no gradient goes further back.
        if tile.carried == 0 { return }
        for cache in 0..<shape.caches {
            keyValueGradients(cache, slots: 0..<tile.carried, tile, accumulatingInto: gradient)
        }
    }

    /// Steps 3 and 2 of one block, layers last to first. What needs several blocks is left to `gatherChunk` and `gradients`.
    private func backward(
        _ block: Range<Int>, of chunk: Range<Int>, in span: Range<Int>, _ tile: Tile, _ dropout: Dropout?,
        weights: [Double], accumulatingInto dWeights: inout [Double]
    ) {
        let rows = rows(block, of: tile)
        let delta = self.rows(from(span, block), of: tile)
        let dx = workspace.dx.rows(rows)
        let dNormalized = workspace.dNormalized.rows(0..<rows.count)
        let attending = attending(block, tile)
        let dm = workspace.memory.rows(0..<(shape.isRecurrent ? rows.count : 0))
        if shape.isRecurrent {  // 3
            memoryBackward(block, of: chunk, in: span, tile, into: dm)
            dWeights[model.layers] += executor.timed(.memory) {
                executor.weightedSumBackward(  // E9
                    dm, x: workspace.x[model.layers].rows(rows), weight: weights[model.layers], accumulatingInto: dx)
            }
        }
        for l in (0..<model.layers).reversed() {
            let layer = packed.layers[l]
            executor.feedForwardBackward(  // 2: E4
                dx, inner: layer.inner.packed, outer: layer.outer.packed, workspace.feedForward[l].rows(rows),
                keeping: workspace.feedForwardDeltas[l].rows(delta), dNormalized: dNormalized,
                dropout: self.dropout(dropout, layer: l, block, tile))
            if !attending.isEmpty {
                let seeing = self.rows(attending, of: tile)
                let delta = self.rows(from(span, attending), of: tile)
                let stash = workspace.attention[l].rows(seeing)
                let deltas = workspace.attentionDeltas[l].rows(delta)
                let dx = workspace.dx.rows(seeing)
                executor.attentionBackward(  // E8
                    dx, layer, cache(layer: l), visibility(attending, tile), stash, keeping: deltas,
                    dropout: self.dropout(dropout, layer: l, attending, tile))
                if l > 0 {
                    executor.queryBackward(  // E8
                        dx, layer, stash, deltas, dNormalized: workspace.dNormalized.rows(0..<seeing.count))
                }
            }
            if shape.isRecurrent {
                dWeights[l] += executor.timed(.memory) {
                    executor.weightedSumBackward(  // E9
                        dm, x: workspace.x[l].rows(rows), weight: weights[l], accumulatingInto: dx)
                }
            } else {  // 3
                let slots = slots(block, tile)
                gather(l, steps: attending, of: span, slots: slots, tile)
                let dKeysValues = workspace.dKeysValues[l].rows(delta)
                executor.keyValueGradients(workspace.caches[l], slots: slots, into: dKeysValues)
                if model.memoryNorm == .none {
                    executor.linearBackward(dKeysValues, keyValue(cache: l), accumulatingInto: dx)
                } else {
                    executor.linearBackward(dKeysValues, keyValue(cache: l), into: dNormalized)
                    normBackward(dNormalized, cache: l, block, tile, accumulatingInto: dx)
                }
            }
        }
    }

    /// dm of one block: from the gradients of its keys and values, after the later steps of its chunk have been added to them.
    private func memoryBackward(
        _ block: Range<Int>, of chunk: Range<Int>, in span: Range<Int>, _ tile: Tile, into dm: Matrix<State>
    ) {
        let slots = slots(block, tile)
        let dn = model.memoryNorm == .none ? dm : workspace.dNormalized.rows(0..<dm.rows)
        for cache in 0..<shape.caches {
            gather(cache, steps: block.upperBound..<chunk.upperBound, of: span, slots: slots, tile)
            let dKeysValues = workspace.dKeysValues[cache].rows(rows(from(span, block), of: tile))
            executor.keyValueGradients(workspace.caches[cache], slots: slots, into: dKeysValues)
            if cache == 0 {
                executor.linearBackward(dKeysValues, keyValue(cache: cache), into: dn)
            } else {
                executor.linearBackward(dKeysValues, keyValue(cache: cache), accumulatingInto: dn)
            }
        }
        if model.memoryNorm == .layer {
            dm.clear()
            normBackward(dn, cache: 0, block, tile, accumulatingInto: dm)
        }
    }

    /// The answer to `keep`, where it normalises.
    private func normBackward(
        _ dn: Matrix<State>, cache: Int, _ block: Range<Int>, _ tile: Tile, accumulatingInto dm: Matrix<State>
    ) {
        executor.normalizeBackward(
            dn, normalized: vectors(cache: cache, slots: slots(block, tile), tile),
            inverseDeviation: workspace.memoryInverseDeviation[cache].rows(rows(block, of: tile)),
            accumulatingInto: dm)
    }

    /// What a chunk's steps contribute to the gradients of positions (E5) and of all earlier memories (E5, E7).
    private func gatherChunk(_ chunk: Range<Int>, in span: Range<Int>, _ tile: Tile) {
        let attending = attending(chunk, tile)
        if attending.isEmpty { return }
        for l in 0..<model.layers {
            executor.timed(.attentionBackward) {
                executor.gather(
                    scoreGradients: workspace.attentionDeltas[l].rows(rows(from(span, attending), of: tile)).scores,
                    q: workspace.attention[l].rows(rows(attending, of: tile)).query, rows: tile.rows.count,
                    visibility(attending, tile), accumulatingInto: workspace.positionGradients[l])
            }
        }
        let earlier = tile.carried + (shape.isRecurrent ? chunk.lowerBound : 0)
        for cache in 0..<shape.caches {
            gather(cache, steps: attending, of: span, slots: 0..<earlier, tile)
        }
    }

    /// What is computed once for a span: weight gradients (E3), and the backward pass of the first layer's queries (E8).
    private func gradients(_ span: Range<Int>, _ tile: Tile, accumulatingInto gradient: ParameterStore) {
        let rows = rows(span, of: tile)
        let delta = 0..<rows.count
        let attending = attending(span, tile)
        let seeing = self.rows(attending, of: tile)
        let seeingDelta = self.rows(from(span, attending), of: tile)
        for (l, layer) in packed.layers.enumerated() {
            let feedForward = workspace.feedForward[l].rows(rows)
            let dFeedForward = workspace.feedForwardDeltas[l].rows(delta)
            gradients(dFeedForward.output, feedForward.hidden, of: layer.outer, accumulatingInto: gradient)
            gradients(dFeedForward.hidden, feedForward.normalized, of: layer.inner, accumulatingInto: gradient)
            if attending.isEmpty { continue }
            let attention = workspace.attention[l].rows(seeing)
            let dAttention = workspace.attentionDeltas[l].rows(seeingDelta)
            if l == 0 {
                executor.queryBackward(
                    workspace.dx.rows(seeing), layer, attention, dAttention,
                    dNormalized: workspace.dNormalized.rows(0..<seeing.count))
            }
            gradients(dAttention.output, attention.context, of: layer.output, accumulatingInto: gradient)
            gradients(dAttention.query, attention.normalized, of: layer.query, accumulatingInto: gradient)
        }
        for cache in 0..<shape.caches {
            gradients(
                workspace.dKeysValues[cache].rows(delta), vectors(cache: cache, slots: slots(span, tile), tile),
                of: packed.keyValue[packed.keyValue.count == 1 ? 0 : cache], accumulatingInto: gradient)
        }
    }

    /// The steps of a range, counted from the first of another.
    private func from(_ range: Range<Int>, _ steps: Range<Int>) -> Range<Int> {
        steps.lowerBound - range.lowerBound..<steps.upperBound - range.lowerBound
    }

    /// Adds what some steps of a span contribute to the gradients of some slots' keys and values.
    private func gather(_ cache: Int, steps: Range<Int>, of span: Range<Int>, slots: Range<Int>, _ tile: Tile) {
        let layers = shape.caches == 1 ? 0..<model.layers : cache..<cache + 1
        let gradients = layers.map { l in
            let stash = workspace.attention[l].rows(rows(span, of: tile))
            let deltas = workspace.attentionDeltas[l].rows(0..<span.count * tile.rows.count)
            return AttentionGradients(
                scores: deltas.scores, probabilities: stash.probabilities, query: stash.query, context: deltas.context)
        }
        executor.timed(.attentionBackward) {
            executor.gather(
                gradients, steps: from(span, steps), slots: slots, visibility(span, tile),
                accumulatingInto: workspace.caches[cache])
        }
    }

    /// Weight gradients of key and value from slots whose dk and dv are complete.
    private func keyValueGradients(
        _ cache: Int, slots: Range<Int>, _ tile: Tile, accumulatingInto gradient: ParameterStore
    ) {
        let dKeysValues = workspace.dKeysValues[cache].rows(0..<slots.count * tile.rows.count)
        executor.keyValueGradients(workspace.caches[cache], slots: slots, into: dKeysValues)
        gradients(
            dKeysValues, vectors(cache: cache, slots: slots, tile),
            of: packed.keyValue[packed.keyValue.count == 1 ? 0 : cache], accumulatingInto: gradient)
    }

    private func gradients(
        _ dy: Matrix<Operand>, _ x: Matrix<Operand>, of map: PackedMap<E>, accumulatingInto gradient: ParameterStore
    ) {
        executor.linearGradients(
            dy, x, map.packed, accumulatingInto: gradient.matrix(map.map.weight),
            dBias: map.biasGradient(in: gradient))
    }
}
