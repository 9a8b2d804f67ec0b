import CKernels
import FeedbackTransformer

// E14: dropout (Srivastava et al. 2014)
//
//   forward    y  = z ∘ x / (1 − ρ)        z_i = 0 with probability ρ, else 1
//   backward   dx = z ∘ dy / (1 − ρ)
//
// z is drawn twice, not kept: whether an element is dropped is a function of a key and its column (`Dropout`).
//
// On attention weights (E7), with p̂ = z ∘ p / (1 − ρ):
//
//   forward    c = Σ_j p̂_j v_j
//   backward   ds_j = p̂_j dp_j − p_j (dc·c)      since Σ_i p̂_i dp_i = dc·c
//
// There p is kept with a minus sign where it is dropped, until the backward pass puts p̂ in its place.

extension Dropout {
    /// 1 / (1 − ρ) or 0.
    func factor(_ rowKey: UInt32, column: Int) -> Double {
        feedback_hash(rowKey, UInt32(truncatingIfNeeded: column)) < threshold ? 0 : scale
    }
}

/// Dropout in one layer, for a block of steps.
struct BlockDropout {
    enum Place: Int {
        case attentionWeights, attentionOutput, hidden, feedForwardOutput
    }
    let layer: Dropout
    /// The first time step, and the rows of each.
    let step, rows: Int
    /// Room for what a residual branch adds, [n·rows, D].
    let branch: Matrix<State>

    func at(_ place: Place) -> Dropout { layer.part(place.rawValue) }
}

extension Executor {
    /// x = z ∘ x / (1 − ρ).
    func drop(_ x: Matrix<Operand>, _ dropout: BlockDropout?, _ place: BlockDropout.Place) {
        if let dropout { drop(x, dropout.at(place), step: dropout.step, rows: dropout.rows) }
    }

    /// x += z ∘ (h Wᵀ + b) / (1 − ρ): what a block of a layer adds to the residual stream.
    func residual(
        _ h: Matrix<Operand>, _ map: Linear, _ dropout: BlockDropout?, _ place: BlockDropout.Place,
        accumulatingInto x: Matrix<State>
    ) {
        guard let dropout else { return linear(h, map, accumulatingInto: x) }
        let branch = dropout.branch.rows(0..<x.rows)
        linear(h, map, into: branch)
        drop(branch, dropout.at(place), step: dropout.step, rows: dropout.rows)
        add(branch, accumulatingInto: x)
    }
}

package protocol DropoutOperations {
    /// x = z ∘ x / (1 − ρ), for [n·rows, columns] of `rows` rows a time step, the first of which is `step`.
    func drop<Role>(_ x: Matrix<Role>, _ dropout: Dropout, step: Int, rows: Int)
}

extension ReferenceExecutor {
    package func drop<Role>(_ x: Matrix<Role>, _ dropout: Dropout, step: Int, rows: Int) {
        for n in 0..<x.rows {
            let key = dropout.rowKey(step: step + n / rows, row: n % rows)
            for c in 0..<x.columns { x.doubles[n * x.columns + c] *= dropout.factor(key, column: c) }
        }
    }
}

extension CPUExecutor {
    package func drop<Role>(_ x: Matrix<Role>, _ dropout: Dropout, step: Int, rows: Int) {
        let kernels = x.elementSize == MemoryLayout<Float>.size ? float32 : kernels
        for n in 0..<x.rows {
            kernels.drop(
                x.pointer(n * x.columns), x.columns, dropout.rowKey(step: step + n / rows, row: n % rows),
                dropout.threshold, Float(dropout.scale))
        }
    }
}
