import CKernels

// E2: layer normalisation (Ba et al. 2016), without its gain and shift
//
//   forward    r = (var(x) + ε)^-½        var over the D columns, divided by D;  ε = 1e-5
//              y = (x − mean(x)) · r
//   backward   dx += r · ( dy − mean(dy) − y · mean(dy ∘ y) )
//
// Gain and shift belong to the linear map that follows (E3): W (γ ∘ y + β) = (W diag γ) y + W β.
//
// Shapes: x, y, dx, dy [N, D]; r [N, 1]. Kept for the backward pass: y, r.

package protocol LayerNormOperations {
    /// y = (x − mean(x)) · r, a row at a time.
    func normalize(_ x: Matrix<State>, into y: Matrix<Operand>, inverseDeviation r: Matrix<State>)
    /// dx += r · (dy − mean(dy) − y · mean(dy ∘ y)), a row at a time.
    func normalizeBackward(
        _ dy: Matrix<State>, normalized y: Matrix<Operand>, inverseDeviation r: Matrix<State>,
        accumulatingInto dx: Matrix<State>)
}

private func check<A, B>(_ x: Matrix<A>, _ y: Matrix<B>, _ r: Matrix<State>) {
    assert(x.rows == y.rows && x.columns == y.columns && r.count == x.rows)
}

extension ReferenceExecutor {
    package func normalize(_ x: Matrix<State>, into y: Matrix<Operand>, inverseDeviation r: Matrix<State>) {
        check(x, y, r)
        let size = Double(x.columns)
        for n in 0..<x.rows {
            let row = UnsafeBufferPointer(start: x.doubles + n * x.columns, count: x.columns)
            let mean = row.reduce(0, +) / size
            let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / size
            r.doubles[n] = 1 / (variance + 1e-5).squareRoot()
            for d in 0..<x.columns { y.doubles[n * x.columns + d] = (row[d] - mean) * r.doubles[n] }
        }
    }

    package func normalizeBackward(
        _ dy: Matrix<State>, normalized y: Matrix<Operand>, inverseDeviation r: Matrix<State>,
        accumulatingInto dx: Matrix<State>
    ) {
        check(dy, y, r)
        let size = Double(dy.columns)
        for n in 0..<dy.rows {
            let row = n * dy.columns..<(n + 1) * dy.columns
            let mean = row.reduce(0) { $0 + dy.doubles[$1] } / size
            let projection = row.reduce(0) { $0 + dy.doubles[$1] * y.doubles[$1] } / size
            for i in row { dx.doubles[i] += r.doubles[n] * (dy.doubles[i] - mean - y.doubles[i] * projection) }
        }
    }
}

extension CPUExecutor {
    package func normalize(_ x: Matrix<State>, into y: Matrix<Operand>, inverseDeviation r: Matrix<State>) {
        check(x, y, r)
        kernels.normalize(x.floats, x.rows, x.columns, y.base, r.floats)
    }

    package func normalizeBackward(
        _ dy: Matrix<State>, normalized y: Matrix<Operand>, inverseDeviation r: Matrix<State>,
        accumulatingInto dx: Matrix<State>
    ) {
        check(dy, y, r)
        kernels.normalizeBackward(dy.floats, y.base, r.floats, dy.rows, dy.columns, dx.floats)
    }
}

// E3: linear map, with the gain and shift of the LayerNorm before it folded in
//
//   forward    y  = x W'ᵀ + b'            W' = s W diag(γ),   b' = s (W β + b)
//   backward   dx = dy W'
//              dW' += dyᵀ x,   db' += Σ_n dy_n
//   unfolding  dγ_i += s Σ_o W_oi dW'_oi,   dβ_i += s Σ_o W_oi db'_o
//              dW = s (dW' diag(γ) + db' βᵀ),   db = s db'
//
// γ, β are the gain and shift of the LayerNorm whose normalised output is x (1 and 0 where there is none), s a constant
// factor. Packing and unfolding happen once per optimizer step, everything else many times; so the recurrence never
// touches γ, β or s, and LayerNorm's gain and shift cost no pass over the activations, forward or backward.
//
// Shapes: x, dx [N, inputs]; y, dy [N, outputs]; W, dW [outputs, inputs]; b, db [outputs]; γ, β [inputs].
// A bias may be shorter than the outputs: it then belongs to the last of them, and unfolding takes db' of the others for
// zero. So it is for keys, which come first: a constant added to all keys changes no attention, Σ_j ds_j = 0 (E6).

/// Gain γ and shift β of a LayerNorm, or their gradients.
package struct NormParameters: Sendable {
    let gain: Matrix<State>
    let shift: Matrix<State>
}

package protocol PackedLinear: AnyObject, Sendable {
    var inputs: Int { get }
    var outputs: Int { get }
}

package protocol LinearOperations {
    /// A weight matrix as the executor wants it for many products, made anew by `pack` whenever the parameters change.
    associatedtype Linear: PackedLinear
    func makeLinear(inputs: Int, outputs: Int) -> Linear
    /// Prepares W' and b' for the products below.
    func pack(
        _ linear: Linear, weight: Matrix<State>, bias: Matrix<State>?, norm: NormParameters?, scale: Double)

    /// y = x W'ᵀ + b', then max(0, y) where `rectified`.
    func linear(_ x: Matrix<Operand>, _ linear: Linear, into y: Matrix<Operand>, rectified: Bool)
    /// y = x W'ᵀ + b'.
    func linear(_ x: Matrix<Operand>, _ linear: Linear, into y: Matrix<State>)
    /// y += x W'ᵀ + b'.
    func linear(_ x: Matrix<Operand>, _ linear: Linear, accumulatingInto y: Matrix<State>)

    /// dx = dy W'.
    func linearBackward(_ dy: Matrix<Operand>, _ linear: Linear, into dx: Matrix<Operand>)
    /// dx = dy W'.
    func linearBackward(_ dy: Matrix<Operand>, _ linear: Linear, into dx: Matrix<State>)
    /// dx += dy W'.
    func linearBackward(_ dy: Matrix<Operand>, _ linear: Linear, accumulatingInto dx: Matrix<State>)

    /// dW' += dyᵀ x, and db' += Σ_n dy_n over the last `dBias.count` outputs.
    func linearGradients(
        _ dy: Matrix<Operand>, _ x: Matrix<Operand>, _ linear: Linear, accumulatingInto dWeight: Matrix<State>,
        dBias: Matrix<State>?)
    /// Turns dW' and db' into dW and db, in place, and adds to dγ and dβ.
    func unfold(
        _ dWeight: Matrix<State>, dBias: Matrix<State>?, weight: Matrix<State>, norm: NormParameters?, scale: Double,
        accumulatingInto dNorm: NormParameters?)
}

// MARK: Reference

package final class ReferenceLinear: PackedLinear, @unchecked Sendable {
    package let inputs, outputs: Int
    var weight: [Double] = []  // W', [outputs, inputs]
    var bias: [Double] = []  // b'

    init(inputs: Int, outputs: Int) { (self.inputs, self.outputs) = (inputs, outputs) }
}

extension ReferenceExecutor {
    package func makeLinear(inputs: Int, outputs: Int) -> ReferenceLinear {
        ReferenceLinear(inputs: inputs, outputs: outputs)
    }

    package func pack(
        _ linear: ReferenceLinear, weight: Matrix<State>, bias: Matrix<State>?, norm: NormParameters?, scale: Double
    ) {
        let (w, inputs, outputs) = (weight.values, linear.inputs, linear.outputs)
        let gain = norm?.gain.values ?? Array(repeating: 1, count: inputs)
        let shift = norm?.shift.values ?? Array(repeating: 0, count: inputs)
        let b = bias?.values ?? []
        linear.weight = w.indices.map { scale * w[$0] * gain[$0 % inputs] }
        linear.bias = (0..<outputs).map { o in
            let own = o - (outputs - b.count)
            return scale * (0..<inputs).reduce(own >= 0 ? b[own] : 0) { $0 + w[o * inputs + $1] * shift[$1] }
        }
    }

    private func product<R>(
        _ x: Matrix<Operand>, _ linear: ReferenceLinear, into y: Matrix<R>, finish: (Double, Double) -> Double
    ) {
        precondition(x.columns == linear.inputs && y.columns == linear.outputs && x.rows == y.rows)
        for n in 0..<x.rows {
            for o in 0..<linear.outputs {
                var sum = linear.bias[o]
                for i in 0..<linear.inputs { sum += x.doubles[n * x.columns + i] * linear.weight[o * x.columns + i] }
                let index = n * y.columns + o
                y.doubles[index] = finish(y.doubles[index], sum)
            }
        }
    }

    package func linear(_ x: Matrix<Operand>, _ linear: ReferenceLinear, into y: Matrix<Operand>, rectified: Bool) {
        product(x, linear, into: y) { rectified ? max(0, $1) : $1 }
    }
    package func linear(_ x: Matrix<Operand>, _ linear: ReferenceLinear, into y: Matrix<State>) {
        product(x, linear, into: y) { $1 }
    }
    package func linear(_ x: Matrix<Operand>, _ linear: ReferenceLinear, accumulatingInto y: Matrix<State>) {
        product(x, linear, into: y) { $0 + $1 }
    }

    private func productBackward<R>(_ dy: Matrix<Operand>, _ linear: ReferenceLinear, accumulatingInto dx: Matrix<R>) {
        precondition(dy.columns == linear.outputs && dx.columns == linear.inputs && dy.rows == dx.rows)
        for n in 0..<dy.rows {
            for o in 0..<linear.outputs {
                for i in 0..<linear.inputs {
                    dx.doubles[n * dx.columns + i] +=
                        dy.doubles[n * dy.columns + o] * linear.weight[o * linear.inputs + i]
                }
            }
        }
    }

    package func linearBackward(_ dy: Matrix<Operand>, _ linear: ReferenceLinear, into dx: Matrix<Operand>) {
        dx.clear()
        productBackward(dy, linear, accumulatingInto: dx)
    }
    package func linearBackward(_ dy: Matrix<Operand>, _ linear: ReferenceLinear, into dx: Matrix<State>) {
        dx.clear()
        productBackward(dy, linear, accumulatingInto: dx)
    }
    package func linearBackward(_ dy: Matrix<Operand>, _ linear: ReferenceLinear, accumulatingInto dx: Matrix<State>) {
        productBackward(dy, linear, accumulatingInto: dx)
    }

    package func linearGradients(
        _ dy: Matrix<Operand>, _ x: Matrix<Operand>, _ linear: ReferenceLinear, accumulatingInto dWeight: Matrix<State>,
        dBias: Matrix<State>?
    ) {
        for n in 0..<dy.rows {
            for o in 0..<dy.columns {
                for i in 0..<x.columns {
                    dWeight.doubles[o * x.columns + i] += dy.doubles[n * dy.columns + o] * x.doubles[n * x.columns + i]
                }
            }
        }
        guard let dBias else { return }
        let first = dy.columns - dBias.count
        for n in 0..<dy.rows {
            for o in 0..<dBias.count { dBias.doubles[o] += dy.doubles[n * dy.columns + first + o] }
        }
    }

    package func unfold(
        _ dWeight: Matrix<State>, dBias: Matrix<State>?, weight: Matrix<State>, norm: NormParameters?, scale: Double,
        accumulatingInto dNorm: NormParameters?
    ) {
        let inputs = weight.columns
        for o in 0..<weight.rows {
            let own = o - (weight.rows - (dBias?.count ?? 0))
            for i in 0..<inputs {
                let at = o * inputs + i
                if let norm, let dNorm, let dBias {
                    let db = own >= 0 ? dBias.doubles[own] : 0
                    dNorm.gain.doubles[i] += scale * weight.doubles[at] * dWeight.doubles[at]
                    dNorm.shift.doubles[i] += scale * weight.doubles[at] * db
                    dWeight.doubles[at] = dWeight.doubles[at] * norm.gain.doubles[i] + db * norm.shift.doubles[i]
                }
                dWeight.doubles[at] *= scale
            }
        }
        guard let dBias else { return }
        for o in 0..<dBias.count { dBias.doubles[o] *= scale }
    }
}
