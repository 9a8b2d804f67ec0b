import FeedbackTransformer

/// Tokens, and at each the token to predict.
public struct TokenStream: Sendable {
    private enum Storage: Sendable {
        /// Each token of a range but the last, and the next to predict.
        case text(Tokens, Range<Int>, Tokenizer)
        case pairs(inputs: [Int32], targets: [Int32])
    }
    private let storage: Storage
    /// How many there are to read.
    public let count: Int
    /// Where the sequences of a task begin, in order: nothing before is needed there. None in a text.
    public let starts: [Int]

    /// Inputs, and as many targets: negative where nothing is to be predicted.
    public init(inputs: [Int32], targets: [Int32], starts: [Int] = []) {
        precondition(inputs.count == targets.count)
        storage = .pairs(inputs: inputs, targets: targets)
        count = inputs.count
        self.starts = starts
    }

    /// Every token but the first, to be predicted from those before it.
    public init(_ tokens: [Int32]) { self.init(inputs: Array(tokens.dropLast()), targets: Array(tokens.dropFirst())) }

    /// A part of a text.
    init(_ tokens: Tokens, _ range: Range<Int>, _ tokenizer: Tokenizer) {
        storage = .text(tokens, range, tokenizer)
        count = max(0, range.count - 1)
        starts = []
    }

    /// Some inputs, and what is to be predicted at each. Throws where they are in a file that is damaged.
    public func callAsFunction(_ range: Range<Int>) throws(FileError) -> (
        inputs: ArraySlice<Int32>, targets: ArraySlice<Int32>
    ) {
        switch storage {
        case .pairs(let inputs, let targets): return (inputs[range], targets[range])
        case .text(let tokens, let own, _):
            let first = own.lowerBound + range.lowerBound
            let read = try tokens(first..<first + range.count + 1)
            return (read.dropLast(), read.dropFirst())
        }
    }

    /// Calls with some ranges' inputs and targets, a million at a time.
    private func forEachPiece(
        of ranges: [Range<Int>], _ body: (_ inputs: ArraySlice<Int32>, _ targets: ArraySlice<Int32>) -> Void
    ) throws(FileError) {
        let most = 1 << 20
        for range in ranges {
            for start in stride(from: range.lowerBound, to: range.upperBound, by: most) {
                let (inputs, targets) = try self(start..<min(start + most, range.upperBound))
                body(inputs, targets)
            }
        }
    }

    /// What is to be predicted in some ranges: how many tokens, and how many characters of the text they stand for; of a task,
    /// answers.
    func targets(in ranges: [Range<Int>]) throws(FileError) -> (tokens: Int, characters: Int) {
        guard case .text(_, _, let tokenizer) = storage else {
            var count = 0
            try forEachPiece(of: ranges) { _, targets in count += targets.count { $0 >= 0 } }
            return (count, count)
        }
        let tokens = ranges.reduce(0) { $0 + $1.count }
        guard tokens > 0, tokenizer.kind != .characters else { return (tokens, tokens) }
        // A byte that goes on with a character is none of its own; words have a space between them.
        let lengths = (0..<tokenizer.vocabularySize).map { token in
            tokenizer.bytes(of: Int32(token)).count { $0 & 0xc0 != 0x80 } + tokenizer.separator.utf8.count
        }
        var characters = -tokenizer.separator.utf8.count
        try forEachPiece(of: ranges) { _, targets in
            for target in targets { characters += lengths[Int(target)] }
        }
        return (tokens, characters)
    }

    /// Adds what tells this data from other to a digest.
    func add(to digest: Digest) throws(FileError) {
        if case .text(let tokens, let range, _) = storage, let known = tokens.digest {
            digest.update(Array("\(known) \(range)".utf8))
            return
        }
        func update(_ numbers: ArraySlice<Int32>) {
            numbers.withUnsafeBytes { digest.update($0) }
        }
        try forEachPiece(of: [0..<count]) { inputs, _ in update(inputs) }
        try forEachPiece(of: [0..<count]) { _, targets in update(targets) }
    }
}

/// The tokens of a text, each in as few bytes as its vocabulary needs, in memory or in a file.
struct Tokens: Sendable {
    private enum Place: Sendable {
        case memory([UInt8])
        case file(RandomAccessFile)
    }
    private let place: Place
    private let vocabulary: Int
    /// How many there are.
    let count: Int
    /// SHA-256 of a file's bytes, as hexadecimal digits.
    let digest: String?

    /// In memory.
    init(_ tokens: [Int32], vocabulary: Int) {
        place = .memory(Self.bytes(tokens, vocabulary: vocabulary))
        self.vocabulary = vocabulary
        count = tokens.count
        digest = nil
    }

    /// In a file. Throws where it has not as many.
    init(_ file: RandomAccessFile, count: Int, vocabulary: Int, digest: String) throws(FileError) {
        guard count >= 0, file.size % Self.width(vocabulary) == 0, file.size / Self.width(vocabulary) == count else {
            throw FileError("\(file.path) has \(file.size) bytes, which are not \(count) tokens")
        }
        place = .file(file)
        self.vocabulary = vocabulary
        self.count = count
        self.digest = digest
    }

    /// The tokens of a range. Throws where a file is damaged.
    func callAsFunction(_ range: Range<Int>) throws(FileError) -> [Int32] {
        let width = Self.width(vocabulary)
        let bytes = range.lowerBound * width..<range.upperBound * width
        switch place {
        case .memory(let all): return Self.tokens(all[bytes], width: width)
        case .file(let file):
            let tokens = Self.tokens(try file.bytes(bytes)[...], width: width)
            guard tokens.allSatisfy({ (0..<Int32(vocabulary)).contains($0) }) else {
                throw FileError("\(file.path) is damaged; remove it, and it is made again")
            }
            return tokens
        }
    }

    // MARK: Bytes

    private static func width(_ vocabulary: Int) -> Int { vocabulary <= 1 << 8 ? 1 : vocabulary <= 1 << 16 ? 2 : 4 }

    /// Tokens as they lie in memory or in a file, little-endian.
    static func bytes(_ tokens: [Int32], vocabulary: Int) -> [UInt8] {
        func narrow<Word: FixedWidthInteger>(_: Word.Type) -> [UInt8] {
            tokens.map { Word(truncatingIfNeeded: $0).littleEndian }.withUnsafeBytes { Array($0) }
        }
        return switch width(vocabulary) {
        case 1: narrow(UInt8.self)
        case 2: narrow(UInt16.self)
        default: narrow(Int32.self)
        }
    }

    private static func tokens(_ bytes: ArraySlice<UInt8>, width: Int) -> [Int32] {
        func widen<Word: FixedWidthInteger>(_: Word.Type) -> [Int32] {
            bytes.withUnsafeBytes { raw in
                stride(from: 0, to: raw.count, by: width).map {
                    Int32(truncatingIfNeeded: Word(littleEndian: raw.loadUnaligned(fromByteOffset: $0, as: Word.self)))
                }
            }
        }
        return switch width {
        case 1: bytes.map(Int32.init)
        case 2: widen(UInt16.self)
        default: widen(Int32.self)
        }
    }
}
