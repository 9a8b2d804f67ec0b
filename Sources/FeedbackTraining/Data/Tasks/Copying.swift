import FeedbackTransformer

/// A sequence to be repeated, or to be given backwards (Fan et al. 2020).
///
///     3 1 4 = 3 1 4 END           copy
///     3 1 4 = 4 1 3 END           reverse
///
/// One to twenty digits, each uniform, as is their number. From `=` on, the answer due at each token is the next one, up to
/// and with `END`; the right tokens follow, whatever the model has answered.
public struct Copying: SequenceTask {
    public let name: String
    public let summary: String
    public let symbols = (0..<10).map(String.init) + ["=", "END"]
    private let isReversed: Bool

    public init(reversed: Bool) {
        isReversed = reversed
        name = reversed ? "reverse" : "copy"
        summary = reversed ? "digits to be given backwards" : "digits to be repeated"
    }

    public func sequence(using random: inout RandomSource) -> TaskSequence {
        lesson(1 + random.below(20), using: &random)
    }

    public var difficulties: ClosedRange<Int>? { 1...10_000 }

    /// So many digits.
    public func lesson(_ difficulty: Int, using random: inout RandomSource) -> TaskSequence {
        let digits = (0..<difficulty).map { _ in Int32(random.below(10)) }
        let answer = (isReversed ? digits.reversed() : digits) + [11]
        return TaskSequence(
            tokens: digits + [10] + answer, answers: Array(repeating: -1, count: digits.count) + answer + [-1])
    }

    /// The question, and all answers of the model, those that are wrong in brackets.
    public func show(_ sequence: TaskSequence, answers: [Int32]) -> String {
        let question = sequence.tokens.prefix { $0 != 10 }.map { symbols[Int($0)] }
        let given = sequence.answers.indices.filter { sequence.answers[$0] >= 0 }.map { index in
            let symbol = symbols[Int(answers[index])]
            return answers[index] == sequence.answers[index] ? symbol : "(\(symbol))"
        }
        return (question + ["="] + given).joined(separator: " ") + "\n"
    }
}
