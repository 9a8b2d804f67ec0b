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
package struct FeedForwardStash {
    package let normalized: Matrix<Operand>
    package let inverseDeviation: Matrix<State>
    package let hidden: Matrix<Operand>

    package init(normalized: Matrix<Operand>, inverseDeviation: Matrix<State>, hidden: Matrix<Operand>) {
        self.normalized = normalized
        self.inverseDeviation = inverseDeviation
        self.hidden = hidden
    }

    package func rows(_ range: Range<Int>) -> FeedForwardStash {
        FeedForwardStash(
            normalized: normalized.rows(range), inverseDeviation: inverseDeviation.rows(range),
            hidden: hidden.rows(range))
    }
}

/// What the backward pass keeps for the weight gradients: do, dh.
package struct FeedForwardDeltas {
    package let output: Matrix<Operand>
    package let hidden: Matrix<Operand>

    package init(output: Matrix<Operand>, hidden: Matrix<Operand>) {
        self.output = output
        self.hidden = hidden
    }

    package func rows(_ range: Range<Int>) -> FeedForwardDeltas {
        FeedForwardDeltas(output: output.rows(range), hidden: hidden.rows(range))
    }
}

package protocol RectifierOperations {
    /// dh = 0 where h ≤ 0.
    func rectifierBackward(_ h: Matrix<Operand>, _ dh: Matrix<Operand>)
}

extension Executor {
    /// `inner` is W1' [F, D] with the LayerNorm's gain and shift folded in, `outer` W2 [D, F].
    package func feedForward(
        _ x: Matrix<State>, inner: Linear, outer: Linear, keeping stash: FeedForwardStash,
        dropout: BlockDropout? = nil
    ) {
        normalize(x, into: stash.normalized, inverseDeviation: stash.inverseDeviation)  // 1
        linear(stash.normalized, inner, into: stash.hidden, rectified: true)  // 2
        drop(stash.hidden, dropout, .hidden)
        residual(stash.hidden, outer, dropout, .feedForwardOutput, accumulatingInto: x)  // 3
    }

    /// `dNormalized` is room for dn.
    package func feedForwardBackward(
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
