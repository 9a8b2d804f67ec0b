import FeedbackTransformer

/// T steps of B rows, time-major: the row of step t is t·B ..< (t+1)·B. A negative target is none.
public struct Batch: Equatable, Sendable {
    public let steps: Int
    public let rows: Int
    public let inputs: [Int32]
    public let targets: [Int32]
}

/// Batches for training, without end.
public protocol BatchLoader: Sendable {
    /// T.
    var sequenceLength: Int { get }
    /// B.
    var batchSize: Int { get }
    /// How difficult the sequences drawn from now on are, where there is a choice.
    var difficulty: ClosedRange<Int>? { get set }
    /// Whether the next batch begins anew in every row: no memory of the one before belongs to it.
    var beginsAnew: Bool { get }
    mutating func next() -> Batch
    var cursor: LoaderCursor { get }
    /// Goes on from a cursor of a loader like this one.
    mutating func resume(at cursor: LoaderCursor) throws(CorpusError)
}

extension BatchLoader {
    public var difficulty: ClosedRange<Int>? {
        get { nil }
        set {}
    }
    public var beginsAnew: Bool { false }
}

/// Where a loader is, to go on from there.
public struct LoaderCursor: Codable, Equatable, Sendable {
    var epoch: Int
    /// In the epoch, or batches since rows began anew.
    var position: Int
    /// The random source at the start of the epoch, where there is one.
    var random: [UInt64]?
    /// Every row's place, where each has one of its own.
    var rows: [Row]?

    /// Which of its sequences a row is in, how far, and how difficult it is.
    struct Row: Codable, Equatable, Sendable {
        var sequence: Int
        var place: Int
        var easiest, hardest: Int?
    }
}

private func check(_ stream: TokenStream, _ sequenceLength: Int) throws(CorpusError) {
    guard stream.count >= sequenceLength else {
        throw CorpusError(
            "the data has \(stream.count + 1) tokens to train on; a sequence-length of \(sequenceLength) needs "
                + "\(sequenceLength + 1). Use more data or shorter sequences")
    }
}

/// Windows of the data in random order, without replacement.
///
/// The n − 1 targets are cut into (n − 1) / T windows; an epoch visits each once, starting a random number of tokens below
/// T later (as labml's loader). Batches are always full: one that an epoch cannot fill goes on with the next.
public struct ShuffledLoader: BatchLoader {
    public let sequenceLength: Int
    public let batchSize: Int
    private let stream: TokenStream
    private var order: [Int] = []
    private var jitter: [Int] = []
    /// The random source as it was when the epoch's order was drawn.
    private var epochStart: RandomSource
    private var random: RandomSource
    private var position = 0
    private var epoch = 0

    /// Throws where there is too little for one window.
    public init(_ stream: TokenStream, sequenceLength: Int, batchSize: Int, seed: UInt64) throws(CorpusError) {
        try check(stream, sequenceLength)
        self.stream = stream
        self.sequenceLength = sequenceLength
        self.batchSize = batchSize
        random = RandomSource(seed: seed)
        epochStart = random
        shuffle()
    }

    public var windows: Int { stream.count / sequenceLength }

    private mutating func shuffle() {
        epochStart = random
        order = (0..<windows).shuffled(using: &random)
        jitter = order.map { window in
            random.below(min(sequenceLength, stream.count + 1 - (window + 1) * sequenceLength))
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
        let inputs = (0..<sequenceLength).flatMap { t in starts.map { stream.inputs[$0 + t] } }
        let targets = (0..<sequenceLength).flatMap { t in starts.map { stream.targets[$0 + t] } }
        return Batch(steps: sequenceLength, rows: batchSize, inputs: inputs, targets: targets)
    }

    public var cursor: LoaderCursor { LoaderCursor(epoch: epoch, position: position, random: epochStart.state) }

    public mutating func resume(at cursor: LoaderCursor) throws(CorpusError) {
        guard let random = cursor.random.flatMap(RandomSource.init(state:)), (0...windows).contains(cursor.position),
            (0...Int(Int32.max)).contains(cursor.epoch)
        else { throw CorpusError("the checkpoint's place in the data does not fit the data") }
        self.random = random
        shuffle()
        position = cursor.position
        epoch = cursor.epoch
    }
}

/// The data as B contiguous streams, for training with memory carried from batch to batch.
///
/// Row r starts a share r / B into the data and goes round and round, so that each batch continues the one before in every
/// row, and a row that has come to the end of its share goes on in the next one's. An epoch is one share's length.
public struct StreamLoader: BatchLoader {
    public let sequenceLength: Int
    public let batchSize: Int
    private let stream: TokenStream
    private var position = 0

    /// Throws where there is too little for one segment.
    public init(_ stream: TokenStream, sequenceLength: Int, batchSize: Int) throws(CorpusError) {
        try check(stream, sequenceLength)
        self.stream = stream
        self.sequenceLength = sequenceLength
        self.batchSize = batchSize
    }

    public mutating func next() -> Batch {
        let starts = (0..<batchSize).map { stream.count * $0 / batchSize + position }
        let places = (0..<sequenceLength).flatMap { t in starts.map { ($0 + t) % stream.count } }
        position = (position + sequenceLength) % stream.count
        return Batch(
            steps: sequenceLength, rows: batchSize, inputs: places.map { stream.inputs[$0] },
            targets: places.map { stream.targets[$0] })
    }

    public var cursor: LoaderCursor { LoaderCursor(epoch: 0, position: position) }

    public mutating func resume(at cursor: LoaderCursor) throws(CorpusError) {
        guard stream.inputs.indices.contains(cursor.position), cursor.random == nil else {
            throw CorpusError("the checkpoint's place in the data does not fit the data")
        }
        position = cursor.position
    }
}

/// The data as contiguous streams, from its beginning to its end, once: for evaluation.
///
/// The rows are cut where the targets divide most evenly, of a task where a sequence begins: what is asked in the middle of a
/// program cannot be told without its beginning. A row that ends before the others has no more targets.
public struct SequentialLoader: Sendable {
    public let sequenceLength: Int
    private let stream: TokenStream
    private let ranges: [Range<Int>]
    private var position = 0

    public init(_ stream: TokenStream, sequenceLength: Int, batchSize: Int) {
        precondition(stream.count > 0)
        let (targets, rows) = (stream.count, min(batchSize, stream.count))
        self.stream = stream
        self.sequenceLength = sequenceLength
        let bounds = (0...rows).map { targets * $0 / rows }.map { bound in
            stream.starts.isEmpty || bound == 0 ? bound : stream.starts.first { $0 >= bound } ?? targets
        }
        ranges = zip(bounds, bounds.dropFirst()).map { $0..<$1 }.filter { !$0.isEmpty }
    }

    public var rows: Int { ranges.count }

    /// The next batch; nil when every target has been had.
    public mutating func next() -> Batch? {
        guard ranges.contains(where: { $0.lowerBound + position < $0.upperBound }) else { return nil }
        defer { position += sequenceLength }
        var inputs: [Int32] = []
        var targets: [Int32] = []
        for t in position..<position + sequenceLength {
            for range in ranges {
                let at = range.lowerBound + t
                inputs.append(at < range.upperBound ? stream.inputs[at] : 0)
                targets.append(at < range.upperBound ? stream.targets[at] : -1)
            }
        }
        return Batch(steps: sequenceLength, rows: rows, inputs: inputs, targets: targets)
    }
}
