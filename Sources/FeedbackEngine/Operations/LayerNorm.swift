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
