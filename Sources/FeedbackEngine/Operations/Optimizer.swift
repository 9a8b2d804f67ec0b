import CKernels
import FeedbackTransformer
import Foundation

// E11: gradient clipping by the global norm (Pascanu et al. 2013)
//
//   n = ‖g‖₂ over all parameters;   c = min(1, limit / (n + 1e-6));   g ← c g
//
// E12: Adam (Kingma & Ba 2015) with decoupled weight decay (Loshchilov & Hutter 2019)
//
//   m ← β₁ m + (1 − β₁) g
//   v ← β₂ v + (1 − β₂) g²
//   w ← w (1 − η λ) − η · (m / (1 − β₁ᵗ)) / ( √(v / (1 − β₂ᵗ)) + ε )          t = 1, 2, …
//
// η is the learning rate, λ the weight decay. A parameter whose gradient has always been zero, and that does not decay,
// stays exactly as it is; the optimizer may leave it out.

package protocol OptimizerOperations {
    /// Σ x².
    func sumOfSquares(_ x: Matrix<State>) -> Double
    /// One Adam update of w, m and v, in place.
    func adam(
        _ w: Matrix<State>, gradient g: Matrix<State>, m: Matrix<State>, v: Matrix<State>, step: AdamStep, decay: Double
    )
}

extension ReferenceExecutor {
    package func sumOfSquares(_ x: Matrix<State>) -> Double {
        (0..<x.count).reduce(0) { $0 + x.doubles[$1] * x.doubles[$1] }
    }

    package func adam(
        _ w: Matrix<State>, gradient g: Matrix<State>, m: Matrix<State>, v: Matrix<State>, step: AdamStep, decay: Double
    ) {
        let bias1 = 1 - pow(step.beta1, Double(step.number))
        let bias2 = 1 - pow(step.beta2, Double(step.number))
        for i in 0..<w.count {
            let gradient = step.gradientScale * g.doubles[i]
            m.doubles[i] = step.beta1 * m.doubles[i] + (1 - step.beta1) * gradient
            v.doubles[i] = step.beta2 * v.doubles[i] + (1 - step.beta2) * gradient * gradient
            let update = (m.doubles[i] / bias1) / ((v.doubles[i] / bias2).squareRoot() + step.epsilon)
            w.doubles[i] = w.doubles[i] * (1 - step.learningRate * decay) - step.learningRate * update
        }
    }
}

extension CPUExecutor {
    package func sumOfSquares(_ x: Matrix<State>) -> Double {
        feedback_sum_of_squares(x.floats, x.count)
    }

    package func adam(
        _ w: Matrix<State>, gradient g: Matrix<State>, m: Matrix<State>, v: Matrix<State>, step: AdamStep, decay: Double
    ) {
        assert(w.count == g.count && w.count == m.count && w.count == v.count)
        let bias1 = 1 - pow(step.beta1, Double(step.number))
        let bias2 = 1 - pow(step.beta2, Double(step.number))
        feedback_adam(
            w.floats, g.floats, m.floats, v.floats, w.count, Float(step.gradientScale), Float(1 - step.beta1),
            Float(step.beta2), Float(1 - step.beta2), Float(step.learningRate / bias1), Float(1 / bias2.squareRoot()),
            Float(step.epsilon), Float(1 - step.learningRate * decay))
    }
}
