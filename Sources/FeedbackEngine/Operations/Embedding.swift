import CKernels

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
