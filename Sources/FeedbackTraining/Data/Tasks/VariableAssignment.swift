import FeedbackTransformer

/// Programs to be run in the head (Fan et al. 2020): what does each `print` print?
///
/// A program is 100 statements and `END`. At first no variable has a value. A statement is drawn uniformly from
///
///     v = n ;                     of a variable that has no value yet; n from 1 to 10
///     v ++ ;      v -- ;          of one that has; never beyond 1 … 10
///     if v < c : STATEMENT        or >; c is, with probability ½, another variable that has a value, else from 1 to 10;
///                                 STATEMENT is one of the lines above, and is done only where the condition holds
///     print v ;
///
/// on variables drawn uniformly, and drawn anew where it is not possible; so is the statement of an `if`. The answer is due at
/// the `;` of a `print`. Hints are what a `print` after any other statement would say of its variable. A lesson's programs have
/// fewer or more statements.
public struct VariableAssignment: SequenceTask {
    public let name: String
    public let summary: String
    public let symbols: [String]
    private let variables: Int

    /// - Parameter variables: 1 to 5.
    public init(variables: Int) {
        precondition((1...5).contains(variables), "\(variables) variables")
        self.variables = variables
        name = "variables-\(variables)"
        summary = "programs of \(variables) variables; what does each print?"
        symbols =
            (1...10).map(String.init) + ["x", "y", "z", "p", "r"].prefix(variables)
            + ["=", "++", "--", "if", "<", ">", ":", ";", "print", "END"]
    }

    private enum Symbol: Int32 { case equals, increment, decrement, `if`, less, greater, colon, semicolon, print, end }

    /// Token n − 1 is the number n.
    private func token(_ symbol: Symbol) -> Int32 { Int32(10 + variables) + symbol.rawValue }
    private func token(variable: Int) -> Int32 { Int32(10 + variable) }

    public func sequence(using random: inout RandomSource) -> TaskSequence {
        lesson(100, using: &random)
    }

    public var difficulties: ClosedRange<Int>? { 1...10_000 }

    /// So many statements.
    public func lesson(_ difficulty: Int, using random: inout RandomSource) -> TaskSequence {
        var program = Program(values: Array(repeating: 0, count: variables))
        for _ in 0..<difficulty { while !add(to: &program, using: &random) {} }
        program.append(token(.end))
        return TaskSequence(tokens: program.tokens, answers: program.answers, hints: program.hints)
    }

    /// A program as far as it is written, and the variables' values there; 0 is none yet.
    private struct Program {
        var tokens: [Int32] = []
        var answers: [Int32] = []
        var hints: [Int32] = []
        var values: [Int]

        mutating func append(_ token: Int32, answer: Int32 = -1, hint: Int32 = -1) {
            tokens.append(token)
            answers.append(answer)
            hints.append(hint)
        }

        /// Another variable that has a value; nil where there is none such.
        func variable(but other: Int, using random: inout RandomSource) -> Int? {
            let some = values.indices.filter { values[$0] > 0 && $0 != other }
            return some.isEmpty ? nil : some[random.below(some.count)]
        }
    }

    /// Draws a statement and adds it; false where it is not possible.
    private func add(to program: inout Program, using random: inout RandomSource) -> Bool {
        let (kind, variable) = (random.below(5), random.below(variables))
        if kind >= 3 && program.values[variable] == 0 { return false }
        switch kind {
        case 3:
            let less = random.below(2) == 0
            let other = random.below(2) == 0 ? program.variable(but: variable, using: &random) : nil
            let constant = 1 + random.below(10)
            let (value, bound) = (program.values[variable], other.map { program.values[$0] } ?? constant)
            var inner: Change?
            while inner == nil { inner = change(program, random.below(3), random.below(variables), using: &random) }
            program.append(token(.if))
            program.append(token(variable: variable))
            program.append(token(less ? .less : .greater))
            program.append(other.map { token(variable: $0) } ?? Int32(constant - 1))
            program.append(token(.colon))
            apply(inner!, to: &program, takesPlace: less ? value < bound : value > bound)
        case 4:
            program.append(token(.print))
            program.append(token(variable: variable))
            program.append(token(.semicolon), answer: Int32(program.values[variable] - 1))
        default:
            guard let change = change(program, kind, variable, using: &random) else { return false }
            apply(change, to: &program, takesPlace: true)
        }
        return true
    }

    private struct Change {
        let tokens: [Int32]
        let variable, value: Int
    }

    /// An assignment, increment or decrement; nil where it is not possible.
    private func change(_ program: Program, _ kind: Int, _ variable: Int, using random: inout RandomSource) -> Change? {
        let (name, value) = (token(variable: variable), program.values[variable])
        switch (kind, value) {
        case (0, 0):
            let value = 1 + random.below(10)
            return Change(tokens: [name, token(.equals), Int32(value - 1)], variable: variable, value: value)
        case (1, 1...9):
            return Change(tokens: [name, token(.increment)], variable: variable, value: value + 1)
        case (2, 2...10):
            return Change(tokens: [name, token(.decrement)], variable: variable, value: value - 1)
        default: return nil
        }
    }

    private func apply(_ change: Change, to program: inout Program, takesPlace: Bool) {
        for token in change.tokens { program.append(token) }
        if takesPlace { program.values[change.variable] = change.value }
        program.append(token(.semicolon), hint: Int32(program.values[change.variable] - 1))
    }

    /// A statement a line.
    public func show(_ sequence: TaskSequence, answers: [Int32]) -> String {
        var text = ""
        for (index, token) in sequence.tokens.enumerated() {
            text += symbols[Int(token)]
            let expected = sequence.answers[index]
            if expected >= 0 { text += mark(answers[index], expected: expected) }
            text += token == self.token(.semicolon) ? "\n" : " "
        }
        return text
    }
}
