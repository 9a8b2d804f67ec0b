// E8: attention block, pre-norm, with its residual
//
//   forward  1   (n, r) = LayerNorm(x)                                E2
//            2   q̃  = K^-½ (Wq (γ∘n + β) + u)                         E3
//            3   c   = attention of q̃ over the memory                 E5–E7, weights dropped by E14
//            4   x  += drop(c Woᵀ + bo)                               E3, E14
//   backward 4   do = drop(dx);   dc = do Wo                          dWo  += doᵀ c,   dbo += Σ do
//            3   dq̃ = attention backward of dc                        and, gathered, dk, dv, dU, dS
//            2   dn  = dq̃ Wq'                                         dWq' += dq̃ᵀ n,   du  += Σ dq̃
//            1   dx += LayerNorm backward of dn
//
// At the very first step there is no memory: the whole block is skipped, its output bias too.
//
// Shapes: x, n, q̃, c [N, D] for N = n·B rows; r [N, 1].

/// What the forward pass keeps for the backward pass: n, r, q̃, p, c.
struct AttentionStash {
    let normalized: Matrix<Operand>
    let inverseDeviation: Matrix<State>
    let query: Matrix<Operand>
    /// [N·H, scoreColumns].
    let probabilities: Matrix<Operand>
    let context: Matrix<Operand>

    func rows(_ range: Range<Int>) -> AttentionStash {
        let heads = probabilities.rows / query.rows
        return AttentionStash(
            normalized: normalized.rows(range), inverseDeviation: inverseDeviation.rows(range),
            query: query.rows(range),
            probabilities: probabilities.rows(range.lowerBound * heads..<range.upperBound * heads),
            context: context.rows(range))
    }
}

/// What the backward pass keeps for the sums over steps: do, dc, ds, dq̃.
struct AttentionDeltas {
    let output: Matrix<Operand>
    let context: Matrix<Operand>
    /// [N·H, scoreColumns].
    let scores: Matrix<Operand>
    let query: Matrix<Operand>

    func rows(_ range: Range<Int>) -> AttentionDeltas {
        let heads = scores.rows / query.rows
        return AttentionDeltas(
            output: output.rows(range), context: context.rows(range),
            scores: scores.rows(range.lowerBound * heads..<range.upperBound * heads), query: query.rows(range))
    }
}

extension Executor {
    /// Steps 1 and 2. They need no memory, so the first layer's are computed for all steps at once.
    func query(_ x: Matrix<State>, _ layer: PackedLayer<Self>, keeping stash: AttentionStash) {
        normalize(x, into: stash.normalized, inverseDeviation: stash.inverseDeviation)  // 1
        linear(stash.normalized, layer.query.packed, into: stash.query, rectified: false)  // 2
    }

    /// Steps 3 and 4.
    func attention(
        _ x: Matrix<State>, _ layer: PackedLayer<Self>, _ cache: Cache, _ visibility: Visibility,
        keeping stash: AttentionStash, dropout: BlockDropout?
    ) {
        timed(.attentionForward) {  // 3
            attend(
                stash.query, cache, layer.positions, visibility, probabilities: stash.probabilities,
                dropout: dropout?.at(.attentionWeights), into: stash.context)
        }
        residual(stash.context, layer.output.packed, dropout, .attentionOutput, accumulatingInto: x)  // 4
    }

    /// Steps 4 and 3.
    func attentionBackward(
        _ dx: Matrix<State>, _ layer: PackedLayer<Self>, _ cache: Cache, _ visibility: Visibility,
        _ stash: AttentionStash, keeping deltas: AttentionDeltas, dropout: BlockDropout?
    ) {
        convert(dx, into: deltas.output)  // 4
        drop(deltas.output, dropout, .attentionOutput)
        linearBackward(deltas.output, layer.output.packed, into: deltas.context)
        timed(.attentionBackward) {  // 3
            attendBackward(
                deltas.context, context: stash.context, probabilities: stash.probabilities, cache, layer.positions,
                visibility, dropout: dropout?.at(.attentionWeights), scoreGradients: deltas.scores,
                into: deltas.query)
        }
    }

    /// Steps 2 and 1. `dNormalized` is room for dn.
    func queryBackward(
        _ dx: Matrix<State>, _ layer: PackedLayer<Self>, _ stash: AttentionStash, _ deltas: AttentionDeltas,
        dNormalized: Matrix<State>
    ) {
        linearBackward(deltas.query, layer.query.packed, into: dNormalized)  // 2
        normalizeBackward(  // 1
            dNormalized, normalized: stash.normalized, inverseDeviation: stash.inverseDeviation, accumulatingInto: dx)
    }
}

// E4: position-wise feed-forward block, pre-norm, with its residual (Vaswani et al. 2017, section 3.3)
//
//   forward  1   (n, r) = LayerNorm(x)                             E2
//            2   h  = drop(max(0, n W1'ᵀ + b1'))                 E3, E14
//            3   x += drop(h W2ᵀ + b2)                         E3, E14
//   backward 3   do = drop(dx);   dh = drop(do W2) ∘ [h > 0]       dW2  += doᵀ h,   db2  += Σ do
//            2   dn = dh W1'                                        dW1' += dhᵀ n,   db1' += Σ dh
//            1   dx += LayerNorm backward of dn
//
// The weight gradients on the right are left to the end of many steps, where they are one large product each.
//
// Shapes: x, dx, n, dn [N, D]; r [N, 1]; h, dh [N, F].

/// What the forward pass keeps for the backward pass: n, r, h.
struct FeedForwardStash {
    let normalized: Matrix<Operand>
    let inverseDeviation: Matrix<State>
    let hidden: Matrix<Operand>

    func rows(_ range: Range<Int>) -> FeedForwardStash {
        FeedForwardStash(
            normalized: normalized.rows(range), inverseDeviation: inverseDeviation.rows(range),
            hidden: hidden.rows(range))
    }
}

/// What the backward pass keeps for the weight gradients: do, dh.
struct FeedForwardDeltas {
    let output: Matrix<Operand>
    let hidden: Matrix<Operand>

    func rows(_ range: Range<Int>) -> FeedForwardDeltas {
        FeedForwardDeltas(output: output.rows(range), hidden: hidden.rows(range))
    }
}

package protocol RectifierOperations {
    /// dh = 0 where h ≤ 0.
    func rectifierBackward(_ h: Matrix<Operand>, _ dh: Matrix<Operand>)
}

extension Executor {
    /// `inner` is W1' [F, D] with the LayerNorm's gain and shift folded in, `outer` W2 [D, F].
    func feedForward(
        _ x: Matrix<State>, inner: Linear, outer: Linear, keeping stash: FeedForwardStash,
        dropout: BlockDropout? = nil
    ) {
        normalize(x, into: stash.normalized, inverseDeviation: stash.inverseDeviation)  // 1
        linear(stash.normalized, inner, into: stash.hidden, rectified: true)  // 2
        drop(stash.hidden, dropout, .hidden)
        residual(stash.hidden, outer, dropout, .feedForwardOutput, accumulatingInto: x)  // 3
    }

    /// `dNormalized` is room for dn.
    func feedForwardBackward(
        _ dx: Matrix<State>, inner: Linear, outer: Linear, _ stash: FeedForwardStash,
        keeping deltas: FeedForwardDeltas, dNormalized: Matrix<State>, dropout: BlockDropout? = nil
    ) {
        convert(dx, into: deltas.output)  // 3
        drop(deltas.output, dropout, .feedForwardOutput)
        linearBackward(deltas.output, outer, into: deltas.hidden)
        drop(deltas.hidden, dropout, .hidden)
        rectifierBackward(stash.hidden, deltas.hidden)
        linearBackward(deltas.hidden, inner, into: dNormalized)  // 2
        normalizeBackward(  // 1
            dNormalized, normalized: stash.normalized, inverseDeviation: stash.inverseDeviation, accumulatingInto: dx)
    }
}

extension ReferenceExecutor {
    package func rectifierBackward(_ h: Matrix<Operand>, _ dh: Matrix<Operand>) {
        for i in 0..<h.count where h.doubles[i] <= 0 { dh.doubles[i] = 0 }
    }
}

extension CPUExecutor {
    package func rectifierBackward(_ h: Matrix<Operand>, _ dh: Matrix<Operand>) {
        assert(h.count == dh.count)
        kernels.rectifierBackward(h.base, h.count, dh.base)
    }
}
