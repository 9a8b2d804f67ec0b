import FeedbackTransformer

/// A task's sequences for training, drawn when they are needed, without end: no sequence is seen twice.
///
/// Every row of the batch has sequences of its own, one after the other. With streams a batch goes on in every row where the
/// one before ended, but for one in so many, with which all rows begin new sequences without memory: or a model would never
/// learn to begin. Without streams that is every batch; what is cut off then is never seen. A row's n-th sequence depends on
/// seed, row, n and difficulty alone, so a cursor is a few numbers a row.
public struct TaskLoader: BatchLoader {
    public let sequenceLength: Int
    public let batchSize: Int
    /// How difficult the sequences drawn from now on are; the standard task where nil.
    public var difficulty: ClosedRange<Int>? {
        didSet { if difficulty != oldValue { choice = difficulty.map(DifficultyChoice.init) } }
    }
    private let task: any SequenceTask
    /// Batches from one that begins anew to the next.
    private let period: Int
    private var batches = 0
    private let hints: Bool
    private let seed: UInt64
    private var choice: DifficultyChoice?
    private var rows: [Row]

    /// A row's present sequence, and how far it has been given out.
    private struct Row {
        var cursor: LoaderCursor.Row
        var sequence: TaskSequence
    }

    /// Rows of a task's sequences. All begin anew with every `period`-th batch, which is every one without streams; with
    /// `hints`, a sequence's hints are to be predicted too.
    public init(
        _ task: any SequenceTask, sequenceLength: Int, batchSize: Int, period: Int, hints: Bool,
        difficulty: ClosedRange<Int>?, seed: UInt64
    ) {
        (self.task, self.sequenceLength, self.batchSize) = (task, sequenceLength, batchSize)
        (self.period, self.hints, self.difficulty, self.seed) = (period, hints, difficulty, seed)
        choice = difficulty.map(DifficultyChoice.init)
        rows = []
        for row in 0..<batchSize { rows.append(begin(row, number: 0)) }
    }

    private func begin(_ row: Int, number: Int) -> Row {
        let cursor = LoaderCursor.Row(
            sequence: number, place: 0, easiest: difficulty?.lowerBound, hardest: difficulty?.upperBound)
        return Row(cursor: cursor, sequence: draw(row, number: number, choice))
    }

    private func draw(_ row: Int, number: Int, _ choice: DifficultyChoice?) -> TaskSequence {
        var ofRow = RandomSource(seed: seed ^ (UInt64(row) &* 0x9e37_79b9_7f4a_7c15))
        var random = RandomSource(seed: ofRow.next() &+ UInt64(number))
        return task.sequence(choice, using: &random)
    }

    public var beginsAnew: Bool { batches % period == 0 }

    public mutating func next() -> Batch {
        let (T, B) = (sequenceLength, batchSize)
        var inputs = Array(repeating: Int32(0), count: T * B)
        var targets = inputs
        let beginsAnew = beginsAnew
        batches = batches % period + 1
        for r in 0..<B {
            if beginsAnew && rows[r].cursor.place > 0 { rows[r] = begin(r, number: rows[r].cursor.sequence + 1) }
            for t in 0..<T {
                // A sequence may be empty.
                while rows[r].cursor.place == rows[r].sequence.tokens.count {
                    rows[r] = begin(r, number: rows[r].cursor.sequence + 1)
                }
                let place = rows[r].cursor.place
                inputs[t * B + r] = rows[r].sequence.tokens[place]
                let answer = rows[r].sequence.answers[place]
                targets[t * B + r] = answer < 0 && hints ? rows[r].sequence.hints?[place] ?? -1 : answer
                rows[r].cursor.place += 1
            }
        }
        return Batch(steps: T, rows: B, inputs: inputs, targets: targets)
    }

    public var cursor: LoaderCursor { LoaderCursor(epoch: 0, position: batches, rows: rows.map(\.cursor)) }

    public mutating func resume(at cursor: LoaderCursor) throws(CorpusError) {
        guard let cursors = cursor.rows, cursors.count == batchSize, cursor.random == nil,
            (0...period).contains(cursor.position)
        else { throw .unfitCursor }
        batches = cursor.position
        for (row, cursor) in cursors.enumerated() {
            guard (0...Int(Int32.max)).contains(cursor.sequence), cursor.hasDifficulty else { throw .unfitCursor }
            let sequence = draw(row, number: cursor.sequence, cursor.difficulty.map(DifficultyChoice.init))
            guard (0...sequence.tokens.count).contains(cursor.place) else { throw .unfitCursor }
            rows[row] = Row(cursor: cursor, sequence: sequence)
        }
    }
}

extension LoaderCursor.Row {
    /// Whether its difficulty is one: none, or a range that a lesson can have.
    fileprivate var hasDifficulty: Bool {
        guard let easiest, let hardest else { return easiest == nil && hardest == nil }
        return 1 <= easiest && easiest <= hardest && hardest <= 10_000
    }
    fileprivate var difficulty: ClosedRange<Int>? { easiest.flatMap { easiest in hardest.map { easiest...$0 } } }
}

/// Draws a difficulty n from a range with a probability that falls as 1/n: where n is a length, every length has as many
/// tokens as any other.
struct DifficultyChoice: Sendable {
    private let first: Int
    /// Σ 1/n from the first on.
    private let sums: [Double]

    init(_ range: ClosedRange<Int>) {
        first = range.lowerBound
        var sum = 0.0
        sums = range.map { n in
            sum += 1 / Double(n)
            return sum
        }
    }

    /// Throws where the task knows no such difficulties.
    init(_ range: ClosedRange<Int>, of task: any SequenceTask) throws(CorpusError) {
        guard let possible = task.difficulties else {
            throw CorpusError("\(task.name) has no difficulties to choose from")
        }
        guard possible.lowerBound <= range.lowerBound, range.upperBound <= possible.upperBound else {
            throw CorpusError(
                "\(task.name) has the difficulties \(possible.lowerBound) to \(possible.upperBound), not "
                    + "\(range.lowerBound) to \(range.upperBound)")
        }
        self.init(range)
    }

    func draw(using random: inout RandomSource) -> Int {
        if sums.count == 1 { return first }
        let place = random.uniform() * sums.last!
        return first + (sums.firstIndex { place < $0 } ?? sums.count - 1)
    }
}

extension SequenceTask {
    /// One sequence of a difficulty that is drawn first; the standard one where there is no choice.
    func sequence(_ choice: DifficultyChoice?, using random: inout RandomSource) -> TaskSequence {
        guard let choice else { return sequence(using: &random) }
        return lesson(choice.draw(using: &random), using: &random)
    }
}
