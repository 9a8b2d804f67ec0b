import CKernels
import FeedbackTransformer
import Foundation

// E10: softmax and cross-entropy
//
//   forward    p = softmax(z);   loss = −Σ_n log p_n[target_n]
//   backward   dz_n = scale · (p_n − onehot(target_n))         scale = 1 / number of targets makes the loss a mean
//
// A negative target is "no target": no loss and no gradient. The largest logit is subtracted first, so nothing overflows.
//
// Shapes: z, dz [N, V]; targets [N].

package protocol CrossEntropyOperations {
    /// The summed loss, and dz = scale · (softmax(z) − onehot(target)); dz may be z itself. Traps on a target outside the columns.
    func crossEntropy(_ z: Matrix<State>, targets: [Int32], scale: Double, into dz: Matrix<State>) -> CrossEntropySum
}

private func check(_ z: Matrix<State>, _ targets: [Int32]) -> CrossEntropySum {
    precondition(targets.count == z.rows)
    var sum = CrossEntropySum()
    for target in targets {
        precondition(Int(target) < z.columns, "target \(target) is outside the vocabulary of \(z.columns)")
        sum.targets += target >= 0 ? 1 : 0
    }
    return sum
}

extension ReferenceExecutor {
    package func crossEntropy(
        _ z: Matrix<State>, targets: [Int32], scale: Double, into dz: Matrix<State>
    ) -> CrossEntropySum {
        var sum = check(z, targets)
        for (n, target) in targets.enumerated() {
            let gradient = UnsafeMutableBufferPointer(start: dz.doubles + n * z.columns, count: z.columns)
            guard target >= 0 else {
                gradient.update(repeating: 0)
                continue
            }
            let logits = Array(UnsafeBufferPointer(start: z.doubles + n * z.columns, count: z.columns))
            let largest = logits.max()!
            let total = logits.reduce(0) { $0 + exp($1 - largest) }
            sum.loss += log(total) - (logits[Int(target)] - largest)
            sum.correct += logits.firstIndex(of: largest) == Int(target) ? 1 : 0
            for c in 0..<z.columns { gradient[c] = scale * exp(logits[c] - largest) / total }
            gradient[Int(target)] -= scale
        }
        return sum
    }
}

extension CPUExecutor {
    package func crossEntropy(
        _ z: Matrix<State>, targets: [Int32], scale: Double, into dz: Matrix<State>
    ) -> CrossEntropySum {
        var sum = check(z, targets)
        sum.loss = feedback_cross_entropy(
            z.floats, targets, z.rows, z.columns, Float(scale), dz.floats, &sum.correct)
        return sum
    }
}
