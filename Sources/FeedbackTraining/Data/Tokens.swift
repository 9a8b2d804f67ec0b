import FeedbackTransformer

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
