import FeedbackTransformer

extension Batch {
    /// From rows as they lie in the data.
    fileprivate init(_ rows: [(inputs: ArraySlice<Int32>, targets: ArraySlice<Int32>)], steps: Int) {
        func timeMajor(_ rows: [ArraySlice<Int32>]) -> [Int32] {
            (0..<steps).flatMap { t in rows.map { $0[$0.startIndex + t] } }
        }
        self.init(
            steps: steps, rows: rows.count, inputs: timeMajor(rows.map(\.inputs)),
            targets: timeMajor(rows.map(\.targets)))
    }
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
    /// Throws where the data is in a file that is damaged.
    mutating func next() throws(FileError) -> Batch
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

extension CorpusError {
    static let unfitCursor = CorpusError("the checkpoint's place in the data does not fit the data")
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
///
/// Of more windows than four million, as many groups of neighbours are put in order, and an epoch goes through the groups again and
/// again, at each for the next of its windows.
public struct ShuffledLoader: BatchLoader {
    public let sequenceLength: Int
    public let batchSize: Int
    private let stream: TokenStream
    /// How many windows are neighbours in a group.
    private let group: Int
    private var order: [UInt32] = []
    /// The random source as it was when the epoch's order was drawn.
    private var epochStart: RandomSource
    private var random: RandomSource
    private var position = 0
    private var epoch = 0

    /// Throws where there is too little for one window.
    public init(_ stream: TokenStream, sequenceLength: Int, batchSize: Int, seed: UInt64) throws(CorpusError) {
        try self.init(stream, sequenceLength: sequenceLength, batchSize: batchSize, seed: seed, mostGroups: 1 << 22)
    }

    init(
        _ stream: TokenStream, sequenceLength: Int, batchSize: Int, seed: UInt64, mostGroups: Int
    ) throws(CorpusError) {
        try check(stream, sequenceLength)
        self.stream = stream
        group = (stream.count / sequenceLength - 1) / mostGroups + 1
        self.sequenceLength = sequenceLength
        self.batchSize = batchSize
        random = RandomSource(seed: seed)
        epochStart = random
        shuffle()
    }

    public var windows: Int { stream.count / sequenceLength }

    private mutating func shuffle() {
        epochStart = random
        order = Array(0..<UInt32((windows - 1) / group + 1))
        random.shuffle(&order)
        position = 0
    }

    /// Where the next window begins.
    private mutating func start() -> Int {
        while true {
            if position == order.count * group {
                epoch += 1
                shuffle()
            }
            let window = Int(order[position % order.count]) * group + position / order.count
            position += 1
            // The last group may be smaller.
            guard window < windows else { continue }
            let jitter = random.below(min(sequenceLength, stream.count + 1 - (window + 1) * sequenceLength))
            return window * sequenceLength + jitter
        }
    }

    public mutating func next() throws(FileError) -> Batch {
        var rows: [(inputs: ArraySlice<Int32>, targets: ArraySlice<Int32>)] = []
        for _ in 0..<batchSize {
            let start = start()
            rows.append(try stream(start..<start + sequenceLength))
        }
        return Batch(rows, steps: sequenceLength)
    }

    public var cursor: LoaderCursor { LoaderCursor(epoch: epoch, position: position, random: epochStart.state) }

    public mutating func resume(at cursor: LoaderCursor) throws(CorpusError) {
        guard let random = cursor.random.flatMap(RandomSource.init(state:)),
            (0...order.count * group).contains(cursor.position), (0...Int(Int32.max)).contains(cursor.epoch)
        else { throw .unfitCursor }
        self.random = random
        shuffle()
        // Every window draws a number.
        while position < cursor.position { _ = start() }
        guard position == cursor.position else { throw .unfitCursor }
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

    public mutating func next() throws(FileError) -> Batch {
        var rows: [(inputs: ArraySlice<Int32>, targets: ArraySlice<Int32>)] = []
        for row in 0..<batchSize {
            let start = (stream.count * row / batchSize + position) % stream.count
            let end = min(start + sequenceLength, stream.count)
            var (inputs, targets) = try stream(start..<end)
            if end < start + sequenceLength {
                let more = try stream(0..<start + sequenceLength - end)
                inputs += more.inputs
                targets += more.targets
            }
            rows.append((inputs, targets))
        }
        position = (position + sequenceLength) % stream.count
        return Batch(rows, steps: sequenceLength)
    }

    public var cursor: LoaderCursor { LoaderCursor(epoch: 0, position: position) }

    public mutating func resume(at cursor: LoaderCursor) throws(CorpusError) {
        guard (0..<stream.count).contains(cursor.position), cursor.random == nil else { throw .unfitCursor }
        position = cursor.position
    }
}

/// The data as contiguous streams, from its beginning to its end, once: for evaluation.
///
/// The rows are cut where the targets divide most evenly, of a task where a sequence begins: what is asked in the middle of a
/// program cannot be told without its beginning. A row that ends before the others has no more targets. Where only so many tokens
/// are wanted, every row ends after its share of them.
public struct SequentialLoader: Sendable {
    public let sequenceLength: Int
    private let stream: TokenStream
    /// What each row reads.
    let ranges: [Range<Int>]
    private var position = 0

    public init(_ stream: TokenStream, sequenceLength: Int, batchSize: Int, most: Int? = nil) {
        precondition(stream.count > 0)
        let (targets, rows) = (stream.count, min(batchSize, stream.count))
        self.stream = stream
        self.sequenceLength = sequenceLength
        let bounds = (0...rows).map { targets * $0 / rows }.map { bound in
            stream.starts.isEmpty || bound == 0 ? bound : stream.starts.first { $0 >= bound } ?? targets
        }
        ranges = zip(bounds, bounds.dropFirst()).map { first, end in
            first..<min(end, most.map { first + max(1, $0 / rows) } ?? end)
        }.filter { !$0.isEmpty }
    }

    public var rows: Int { ranges.count }

    /// The next batch; nil when every target has been had. Throws where the data is in a file that is damaged.
    public mutating func next() throws(FileError) -> Batch? {
        guard ranges.contains(where: { $0.lowerBound + position < $0.upperBound }) else { return nil }
        defer { position += sequenceLength }
        var rows: [(inputs: ArraySlice<Int32>, targets: ArraySlice<Int32>)] = []
        for range in ranges {
            let start = min(range.lowerBound + position, range.upperBound)
            var (inputs, targets) = try stream(start..<min(start + sequenceLength, range.upperBound))
            let missing = sequenceLength - inputs.count
            inputs += repeatElement(0, count: missing)
            targets += repeatElement(-1, count: missing)
            rows.append((inputs, targets))
        }
        return Batch(rows, steps: sequenceLength)
    }
}
