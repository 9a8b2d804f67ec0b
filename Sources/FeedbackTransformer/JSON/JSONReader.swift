/// Reads a text that is JSON (RFC 8259) piece by piece, strictly. Its work and its memory are bounded by the text's length.
/// What is wrong it tells in the words of who reads.
struct JSONReader<Failure: JSONFailure> {
    private let bytes: [UInt8]
    /// Where the next piece is.
    private(set) var at = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// The byte that comes next; nil at the end.
    var next: UInt8? { at < bytes.count ? bytes[at] : nil }

    mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { at += 1 }
    }

    /// Whether a character comes next, which then is taken.
    mutating func takes(_ character: Unicode.Scalar) -> Bool {
        guard next == UInt8(ascii: character) else { return false }
        at += 1
        return true
    }

    /// Takes a character, and the space before.
    mutating func expect(_ character: Unicode.Scalar) throws(Failure) {
        skipSpace()
        if !takes(character) { throw Failure(.lacks(character), at: at) }
    }

    /// Whether a word comes next, which then is taken.
    mutating func takes(word: StaticString) -> Bool {
        let isNext = word.withUTF8Buffer { bytes[at...].starts(with: $0) }
        if isNext { at += word.utf8CodeUnitCount }
        return isNext
    }

    /// An array's elements, or an object's members: what `element` reads, with commas between.
    mutating func list(
        _ opening: Unicode.Scalar, _ closing: Unicode.Scalar, element: (inout Self) throws(Failure) -> Void
    ) throws(Failure) {
        try expect(opening)
        skipSpace()
        if takes(closing) { return }
        repeat {
            try element(&self)
            skipSpace()
        } while takes(",")
        try expect(closing)
    }

    /// Nothing but space may follow.
    mutating func end() throws(Failure) {
        skipSpace()
        if at < bytes.count { throw Failure(.more, at: at) }
    }

    // MARK: Numbers

    mutating func digits() throws(Failure) {
        let start = at
        while let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { at += 1 }
        if at == start { throw Failure(.lacksDigit, at: at) }
    }

    /// What has been read since a place.
    func text(from start: Int) -> String { String(decoding: bytes[start..<at], as: UTF8.self) }

    // MARK: Strings

    mutating func string() throws(Failure) -> String {
        try expect("\"")
        let start = at
        // What was before the last escape, and the escape itself; what has come since lies in the bytes as it is.
        var before: [UInt8] = []
        var since = at
        while let byte = next {
            switch byte {
            case UInt8(ascii: "\""):
                let rest = bytes[since..<at]
                at += 1
                let string =
                    before.isEmpty
                    ? String(validating: rest, as: UTF8.self) : String(validating: before + rest, as: UTF8.self)
                guard let string else { throw Failure(.notUTF8(start: start), at: at) }
                return string
            case UInt8(ascii: "\\"):
                before += bytes[since..<at]
                at += 1
                before += String(try escaped(in: start)).utf8
                since = at
            case 0..<0x20: throw Failure(.control, at: at)
            default: at += 1
            }
        }
        throw Failure(.endlessString, at: at)
    }

    private mutating func escaped(in start: Int) throws(Failure) -> Unicode.Scalar {
        guard let byte = next else { throw Failure(.endlessString, at: at) }
        at += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{c}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"):
            let first = try hexadecimal(in: start)
            if let scalar = Unicode.Scalar(first) { return scalar }
            guard first < 0xdc00, takes(word: #"\u"#) else {
                throw Failure(.escape("half of a surrogate pair", start: start), at: at)
            }
            let second = try hexadecimal(in: start)
            guard (0xdc00..<0xe000).contains(second) else {
                throw Failure(.escape("half of a surrogate pair", start: start), at: at)
            }
            return Unicode.Scalar(0x10000 + (first - 0xd800) << 10 + (second - 0xdc00))!
        default: throw Failure(.escape("an unknown escape", start: start), at: at)
        }
    }

    private mutating func hexadecimal(in start: Int) throws(Failure) -> UInt32 {
        guard at + 4 <= bytes.count, bytes[at..<at + 4].allSatisfy({ Unicode.Scalar($0).properties.isASCIIHexDigit }),
            let value = UInt32(String(decoding: bytes[at..<at + 4], as: UTF8.self), radix: 16)
        else { throw Failure(.escape("an escape without four digits", start: start), at: at) }
        at += 4
        return value
    }
}

/// What a text that should be JSON has at some place.
enum JSONProblem {
    /// Something else than a character that must come.
    case lacks(Unicode.Scalar)
    case lacksDigit
    /// A control character in a string.
    case control
    /// The end, within a string.
    case endlessString
    /// In the string that began at a byte, an escape that means nothing.
    case escape(String, start: Int)
    /// The end of a string that began at a byte and is not UTF-8.
    case notUTF8(start: Int)
    /// Something after all that there may be.
    case more
}

/// An error that tells of a text that is not JSON.
protocol JSONFailure: Error {
    /// - Parameter position: in bytes.
    init(_ problem: JSONProblem, at position: Int)
}
