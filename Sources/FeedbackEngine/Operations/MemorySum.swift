import CKernels

// E9: the memory vector, a learned weighted sum of all layers' outputs (Fan et al. 2020, their definition of it)
//
//   forward    m = Σ_l a_l x_l            l = 0 … L, the embedding counts too;  a = softmax(w)
//   backward   dx_l += a_l dm
//              da_l  = Σ dm · x_l
//              dw_l  = a_l (da_l − Σ_i a_i da_i)
//
// Shapes: x_l, m [N, D]; a, w [L + 1].

package protocol MemorySumOperations {
    /// m = Σ_l a_l x_l.
    func weightedSum(_ x: [Matrix<State>], weights a: [Double], into m: Matrix<State>)
    /// dx += a dm. Returns da = Σ dm · x.
    func weightedSumBackward(
        _ dm: Matrix<State>, x: Matrix<State>, weight a: Double, accumulatingInto dx: Matrix<State>
    ) -> Double
}

/// dw_l = a_l (da_l − Σ_i a_i da_i).
package func layerWeightsBackward(_ da: [Double], weights a: [Double]) -> [Double] {
    let mean = zip(a, da).reduce(0) { $0 + $1.0 * $1.1 }
    return zip(a, da).map { $0 * ($1 - mean) }
}

extension ReferenceExecutor {
    package func weightedSum(_ x: [Matrix<State>], weights a: [Double], into m: Matrix<State>) {
        for i in 0..<m.count { m.doubles[i] = zip(x, a).reduce(0) { $0 + $1.0.doubles[i] * $1.1 } }
    }

    package func weightedSumBackward(
        _ dm: Matrix<State>, x: Matrix<State>, weight a: Double, accumulatingInto dx: Matrix<State>
    ) -> Double {
        for i in 0..<dm.count { dx.doubles[i] += a * dm.doubles[i] }
        return (0..<dm.count).reduce(0) { $0 + dm.doubles[$1] * x.doubles[$1] }
    }
}

extension CPUExecutor {
    package func weightedSum(_ x: [Matrix<State>], weights a: [Double], into m: Matrix<State>) {
        assert(x.count == a.count && x.allSatisfy { $0.count == m.count })
        withUnsafeTemporaryAllocation(of: UnsafePointer<Float>?.self, capacity: x.count) { pointers in
            withUnsafeTemporaryAllocation(of: Float.self, capacity: x.count) { weights in
                for (l, layer) in x.enumerated() {
                    pointers[l] = UnsafePointer(layer.floats)
                    weights[l] = Float(a[l])
                }
                feedback_weighted_sum(pointers.baseAddress!, weights.baseAddress!, x.count, m.count, m.floats)
            }
        }
    }

    package func weightedSumBackward(
        _ dm: Matrix<State>, x: Matrix<State>, weight a: Double, accumulatingInto dx: Matrix<State>
    ) -> Double {
        assert(dm.count == x.count && dm.count == dx.count)
        return feedback_weighted_sum_backward(dm.floats, x.floats, Float(a), dm.count, dx.floats)
    }
}
