import CKernels
import FeedbackTransformer
import Foundation

// E1: embedding
//
//   forward    x_n = E[token_n]
//   backward   dE[token_n] += dx_n
//
// Shapes: E [V, D], tokens [N], x [N, D].

package protocol EmbeddingOperations {
    /// x_n = E[token_n]. Traps on a token outside the table.
    func embed(_ tokens: [Int32], table: Matrix<State>, into x: Matrix<State>)
    /// dE[token_n] += dx_n, in the order of the tokens.
    func embedBackward(_ dx: Matrix<State>, tokens: [Int32], accumulatingInto dTable: Matrix<State>)
}

private func check(_ tokens: [Int32], table: Matrix<State>, x: Matrix<State>) {
    precondition(x.rows == tokens.count && x.columns == table.columns)
    for token in tokens {
        precondition(token >= 0 && Int(token) < table.rows, "token \(token) is outside the vocabulary of \(table.rows)")
    }
}

extension ReferenceExecutor {
    package func embed(_ tokens: [Int32], table: Matrix<State>, into x: Matrix<State>) {
        check(tokens, table: table, x: x)
        for (n, token) in tokens.enumerated() {
            for d in 0..<x.columns { x.doubles[n * x.columns + d] = table.doubles[Int(token) * x.columns + d] }
        }
    }

    package func embedBackward(_ dx: Matrix<State>, tokens: [Int32], accumulatingInto dTable: Matrix<State>) {
        check(tokens, table: dTable, x: dx)
        for (n, token) in tokens.enumerated() {
            for d in 0..<dx.columns { dTable.doubles[Int(token) * dx.columns + d] += dx.doubles[n * dx.columns + d] }
        }
    }
}

extension CPUExecutor {
    package func embed(_ tokens: [Int32], table: Matrix<State>, into x: Matrix<State>) {
        check(tokens, table: table, x: x)
        for (n, token) in tokens.enumerated() {
            (x.floats + n * x.columns).update(from: table.floats + Int(token) * x.columns, count: x.columns)
        }
    }

    package func embedBackward(_ dx: Matrix<State>, tokens: [Int32], accumulatingInto dTable: Matrix<State>) {
        check(tokens, table: dTable, x: dx)
        for (n, token) in tokens.enumerated() {
            feedback_add(dx.floats + n * dx.columns, dx.columns, dTable.floats + Int(token) * dx.columns)
        }
    }
}

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
