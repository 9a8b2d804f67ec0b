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

public struct FeedForwardWeights: Sendable {
    /// W1' [F, D] with the LayerNorm's gain and shift folded in.
    public let inner: PackedLinear
    /// W2 [D, F].
    public let outer: PackedLinear

    public init(inner: PackedLinear, outer: PackedLinear) {
        self.inner = inner
        self.outer = outer
    }
}

/// What the forward pass keeps for the backward pass: n, r, h.
public struct FeedForwardStash {
    public let normalized: Matrix<Operand>
    public let inverseDeviation: Matrix<State>
    public let hidden: Matrix<Operand>

    public init(normalized: Matrix<Operand>, inverseDeviation: Matrix<State>, hidden: Matrix<Operand>) {
        self.normalized = normalized
        self.inverseDeviation = inverseDeviation
        self.hidden = hidden
    }

    public func rows(_ range: Range<Int>) -> FeedForwardStash {
        FeedForwardStash(
            normalized: normalized.rows(range), inverseDeviation: inverseDeviation.rows(range),
            hidden: hidden.rows(range))
    }
}

/// What the backward pass keeps for the weight gradients: do, dh.
public struct FeedForwardDeltas {
    public let output: Matrix<Operand>
    public let hidden: Matrix<Operand>

    public init(output: Matrix<Operand>, hidden: Matrix<Operand>) {
        self.output = output
        self.hidden = hidden
    }

    public func rows(_ range: Range<Int>) -> FeedForwardDeltas {
        FeedForwardDeltas(output: output.rows(range), hidden: hidden.rows(range))
    }
}

public protocol RectifierOperations {
    /// dh = 0 where h ≤ 0.
    func rectifierBackward(_ h: Matrix<Operand>, _ dh: Matrix<Operand>)
}

extension Executor {
    public func feedForward(
        _ x: Matrix<State>, _ weights: FeedForwardWeights, keeping stash: FeedForwardStash,
        dropout: BlockDropout? = nil
    ) {
        normalize(x, into: stash.normalized, inverseDeviation: stash.inverseDeviation)  // 1
        linear(stash.normalized, weights.inner, into: stash.hidden, rectified: true)  // 2
        drop(stash.hidden, dropout, .hidden)
        residual(stash.hidden, weights.outer, dropout, .feedForwardOutput, accumulatingInto: x)  // 3
    }

    /// `dNormalized` is room for dn.
    public func feedForwardBackward(
        _ dx: Matrix<State>, _ weights: FeedForwardWeights, _ stash: FeedForwardStash,
        keeping deltas: FeedForwardDeltas, dNormalized: Matrix<State>, dropout: BlockDropout? = nil
    ) {
        convert(dx, into: deltas.output)  // 3
        drop(deltas.output, dropout, .feedForwardOutput)
        linearBackward(deltas.output, weights.outer, into: deltas.hidden)
        drop(deltas.hidden, dropout, .hidden)
        rectifierBackward(stash.hidden, deltas.hidden)
        linearBackward(deltas.hidden, weights.inner, into: dNormalized)  // 2
        normalizeBackward(  // 1
            dNormalized, normalized: stash.normalized, inverseDeviation: stash.inverseDeviation, accumulatingInto: dx)
    }
}

extension ReferenceExecutor {
    public func rectifierBackward(_ h: Matrix<Operand>, _ dh: Matrix<Operand>) {
        for i in 0..<h.count where h.doubles[i] <= 0 { dh.doubles[i] = 0 }
    }
}

extension CPUExecutor {
    public func rectifierBackward(_ h: Matrix<Operand>, _ dh: Matrix<Operand>) {
        assert(h.count == dh.count)
        kernels.rectifierBackward(h.base, h.count, dh.base)
    }
}
