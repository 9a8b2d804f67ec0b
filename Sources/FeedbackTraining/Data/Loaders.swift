import FeedbackTransformer

/// T steps of B rows, time-major: the row of step t is t·B ..< (t+1)·B. A negative target is none.
public struct Batch: Equatable, Sendable {
    public let steps: Int
    public let rows: Int
    public let inputs: [Int32]
    public let targets: [Int32]
}

/// Windows of a text in random order, without replacement.
///
/// The text is cut into (n − 1) / T windows; an epoch visits each once, starting a random number of characters below T
/// later (labml's loader; model.md). Batches are always full: one that an epoch cannot fill goes on with the next.
public struct ShuffledLoader: Sendable {
    public let sequenceLength: Int
    public let batchSize: Int
    private let tokens: [Int32]
    private var order: [Int] = []
    private var jitter: [Int] = []
    /// The random source as it was when the epoch's order was drawn.
    private var epochStart: RandomSource
    private var random: RandomSource
    private var position = 0
    private var epoch = 0

    /// Throws where the text is too short for one window.
    public init(_ tokens: [Int32], sequenceLength: Int, batchSize: Int, seed: UInt64) throws(CorpusError) {
        try Self.check(tokens, sequenceLength)
        self.tokens = tokens
        self.sequenceLength = sequenceLength
        self.batchSize = batchSize
        random = RandomSource(seed: seed)
        epochStart = random
        shuffle()
    }

    private static func check(_ tokens: [Int32], _ sequenceLength: Int) throws(CorpusError) {
        guard tokens.count > sequenceLength else {
            throw CorpusError(
                "the text has \(tokens.count) characters to train on; a sequence-length of \(sequenceLength) needs "
                    + "\(sequenceLength + 1). Use a longer text or a smaller --sequence-length")
        }
    }

    public var windows: Int { (tokens.count - 1) / sequenceLength }
    public var batchesPerEpoch: Int { max(1, windows / batchSize) }

    private mutating func shuffle() {
        epochStart = random
        order = (0..<windows).shuffled(using: &random)
        jitter = order.map { window in
            random.below(min(sequenceLength, tokens.count - (window + 1) * sequenceLength))
        }
        position = 0
    }

    public mutating func next() -> Batch {
        var starts: [Int] = []
        for _ in 0..<batchSize {
            if position == order.count {
                epoch += 1
                shuffle()
            }
            starts.append(order[position] * sequenceLength + jitter[position])
            position += 1
        }
        let inputs = (0..<sequenceLength).flatMap { t in starts.map { tokens[$0 + t] } }
        let targets = (0..<sequenceLength).flatMap { t in starts.map { tokens[$0 + t + 1] } }
        return Batch(steps: sequenceLength, rows: batchSize, inputs: inputs, targets: targets)
    }

    // MARK: Where it is

    /// Where a loader is, to go on from there.
    public struct Cursor: Codable, Equatable, Sendable {
        var epoch: Int
        var position: Int
        /// The random source at the start of the epoch.
        var random: [UInt64]
    }

    public var cursor: Cursor { Cursor(epoch: epoch, position: position, random: epochStart.state) }

    /// Goes on from a cursor of a loader like this one.
    public mutating func resume(at cursor: Cursor) throws(CorpusError) {
        guard let random = RandomSource(state: cursor.random), (0...windows).contains(cursor.position),
            cursor.epoch >= 0
        else { throw CorpusError("the checkpoint's place in the data does not fit the data") }
        self.random = random
        shuffle()
        position = cursor.position
        epoch = cursor.epoch
    }
}

/// A text as contiguous streams, from its beginning to its end: every token but the first is a target once.
///
/// The rows are cut where the n − 1 targets divide most evenly; a row that ends before the others has no more targets.
public struct SequentialLoader: Sendable {
    public let sequenceLength: Int
    private let tokens: [Int32]
    private let streams: [Range<Int>]
    private var position = 0

    public init(_ tokens: [Int32], sequenceLength: Int, batchSize: Int) {
        precondition(tokens.count > 1)
        let (targets, rows) = (tokens.count - 1, min(batchSize, tokens.count - 1))
        self.tokens = tokens
        self.sequenceLength = sequenceLength
        streams = (0..<rows).map { targets * $0 / rows..<targets * ($0 + 1) / rows }
    }

    public var rows: Int { streams.count }

    /// The next batch; nil when every target has been had.
    public mutating func next() -> Batch? {
        guard streams.contains(where: { $0.lowerBound + position < $0.upperBound }) else { return nil }
        defer { position += sequenceLength }
        var inputs: [Int32] = []
        var targets: [Int32] = []
        for t in position..<position + sequenceLength {
            for stream in streams {
                let at = stream.lowerBound + t
                inputs.append(at < stream.upperBound ? tokens[at] : 0)
                targets.append(at < stream.upperBound ? tokens[at + 1] : -1)
            }
        }
        return Batch(steps: sequenceLength, rows: rows, inputs: inputs, targets: targets)
    }
}
