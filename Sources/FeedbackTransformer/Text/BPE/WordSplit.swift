/// How a text is cut into words, each of which is encoded by itself. Cut by hand as the regular expressions of the tokenizers'
/// own files cut, over Unicode scalars; every byte of the text is in one word.
public enum WordSplit: Sendable, CaseIterable {
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    case gpt2
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    case llama3

    /// The regular expression.
    public var pattern: String {
        switch self {
        case .gpt2: #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#
        case .llama3:
            #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"#
                + #"\s+(?!\S)|\s+"#
        }
    }

    /// The words of a text.
    public func words(of text: String) -> [String] {
        let bytes = Array(text.utf8)
        var (words, start): ([String], Int) = ([], 0)
        while start < bytes.count {
            let end = end(bytes, start, bytes.count)
            words.append(String(decoding: bytes[start..<end], as: UTF8.self))
            start = end
        }
        return words
    }

    /// Where the word ends that begins at a byte of a text in UTF-8, which ends at `limit`.
    func end(_ text: [UInt8], _ start: Int, _ limit: Int) -> Int {
        switch self {
        case .gpt2: Self.endAsGPT2(text, start, limit)
        case .llama3: Self.endAsLlama3(text, start, limit)
        }
    }

    // MARK: The two

    private static func endAsGPT2(_ text: [UInt8], _ start: Int, _ limit: Int) -> Int {
        if text[start] == apostrophe, let end = endOfContraction(text, start, limit, anyCase: false) { return end }
        var first = Scalar(text, start)
        if text[start] == space, first.end < limit {
            let next = Scalar(text, first.end)
            if next.kind != .space { first = next }
        }
        if first.kind != .space { return endOfRun(first.kind, text, first.end, limit) }
        return endOfSpaces(text, start, limit, throughNewLines: false)
    }

    private static func endAsLlama3(_ text: [UInt8], _ start: Int, _ limit: Int) -> Int {
        if text[start] == apostrophe, let end = endOfContraction(text, start, limit, anyCase: true) { return end }
        let first = Scalar(text, start)
        switch first.kind {
        case .letter: return endOfRun(.letter, text, first.end, limit)
        case .number:
            var end = first.end
            for _ in 0..<2 where end < limit {
                let next = Scalar(text, end)
                if next.kind != .number { break }
                end = next.end
            }
            return end
        case .space, .other: break
        }
        let next = first.end < limit ? Scalar(text, first.end) : first
        if first.end < limit, next.kind == .letter, !isNewLine(text[start]) {
            return endOfRun(.letter, text, next.end, limit)
        }
        if first.kind == .other || text[start] == space && next.kind == .other {
            var end = endOfRun(.other, text, first.end, limit)
            while end < limit, isNewLine(text[end]) { end += 1 }
            return end
        }
        return endOfSpaces(text, start, limit, throughNewLines: true)
    }

    // MARK: Parts

    private static let apostrophe = UInt8(ascii: "'")
    private static let space = UInt8(ascii: " ")

    private static func isNewLine(_ byte: UInt8) -> Bool { byte == 0x0a || byte == 0x0d }

    /// `'s|'t|'re|'ve|'m|'ll|'d`
    private static func endOfContraction(_ text: [UInt8], _ start: Int, _ limit: Int, anyCase: Bool) -> Int? {
        func byte(_ offset: Int) -> UInt8 {
            guard start + offset < limit else { return 0 }
            let byte = text[start + offset]
            return anyCase && (0x41...0x5a).contains(byte) ? byte | 0x20 : byte
        }
        switch (byte(1), byte(2)) {
        case (UInt8(ascii: "s"), _), (UInt8(ascii: "t"), _), (UInt8(ascii: "m"), _), (UInt8(ascii: "d"), _):
            return start + 2
        case (UInt8(ascii: "r"), UInt8(ascii: "e")), (UInt8(ascii: "v"), UInt8(ascii: "e")),
            (UInt8(ascii: "l"), UInt8(ascii: "l")):
            return start + 3
        // ſ, which is an s in any case.
        case (0xc5, 0xbf) where anyCase: return start + 3
        default: return nil
        }
    }

    private static func endOfRun(_ kind: Scalar.Kind, _ text: [UInt8], _ start: Int, _ limit: Int) -> Int {
        var end = start
        while end < limit {
            let next = Scalar(text, end)
            if next.kind != kind { break }
            end = next.end
        }
        return end
    }

    /// `\s+(?!\S)|\s+`: white space but for its last character, which goes with the word after it. With `\s*[\r\n]+` before, up to
    /// the last new line.
    private static func endOfSpaces(_ text: [UInt8], _ start: Int, _ limit: Int, throughNewLines: Bool) -> Int {
        var (last, end) = (start, start)
        var newLine: Int?
        while end < limit {
            let next = Scalar(text, end)
            if next.kind != .space { return newLine ?? (last > start ? last : end) }
            if throughNewLines, isNewLine(text[end]) { newLine = next.end }
            (last, end) = (end, next.end)
        }
        return newLine ?? end
    }
}

/// One Unicode scalar of a text in UTF-8: what it is to a split, and where it ends.
private struct Scalar {
    enum Kind { case letter, number, space, other }
    let kind: Kind
    let end: Int

    @inline(__always)
    init(_ text: [UInt8], _ start: Int) {
        let byte = text[start]
        if byte < 0x80 {
            end = start + 1
            kind =
                switch byte {
                case 0x41...0x5a, 0x61...0x7a: .letter
                case 0x30...0x39: .number
                case 0x09...0x0d, 0x20: .space
                default: .other
                }
        } else {
            let length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2
            end = start + length
            var value = UInt32(byte) & (0x7f >> UInt32(length))
            for index in start + 1..<start + length { value = value << 6 | UInt32(text[index] & 0x3f) }
            kind = Self.kind(Unicode.Scalar(value)!)
        }
    }

    @inline(never)
    private static func kind(_ scalar: Unicode.Scalar) -> Kind {
        let properties = scalar.properties
        return switch properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: .letter
        case .decimalNumber, .letterNumber, .otherNumber: .number
        default: properties.isWhitespace ? .space : .other
        }
    }
}
