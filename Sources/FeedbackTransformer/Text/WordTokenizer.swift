/// One token for every different word of a text, in alphabetical order; spaces are not kept.
public struct WordTokenizer: Equatable, Sendable {
    /// What is a word.
    public enum Rule: Sendable {
        /// torchtext's `basic_english`: lower case; . , ( ) ! ? ' are words of their own; double quotes, semicolons, colons
        /// and `<br />` are dropped.
        case basicEnglish
        /// Whatever white space separates.
        case whiteSpace
    }

    public let rule: Rule
    /// The words by token.
    public let words: [String]
    private let tokens: [String: Int32]

    /// - Precondition: no word is there twice.
    public init(words: [String], rule: Rule) {
        self.rule = rule
        self.words = words
        tokens = Dictionary(uniqueKeysWithValues: zip(words, 0...))
    }

    func encode(_ text: String) throws(TokenizerError) -> [Int32] {
        var encoded: [Int32] = []
        try Self.forEachWord(of: text, by: rule) { word, position throws(TokenizerError) in
            guard let token = tokens[word] else { throw .unknownWord(word, position: position) }
            encoded.append(token)
        }
        return encoded
    }

    // MARK: Splitting

    /// What `basic_english` puts in the place of some texts, one after the other, once all is lower case.
    static let replacements = [
        ("'", " '  "), ("\"", ""), (".", " . "), ("<br />", " "), (",", " , "), ("(", " ( "), (")", " ) "),
        ("!", " ! "),
        ("?", " ? "), (";", " "), (":", " "),
    ]

    /// Calls with the words of a text, each with the position of the character that it begins at.
    static func forEachWord<Failure: Error>(
        of text: String, by rule: Rule, _ body: (_ word: String, _ position: Int) throws(Failure) -> Void
    ) throws(Failure) {
        var (word, start) = (String.UnicodeScalarView(), 0)
        func end() throws(Failure) {
            if word.isEmpty { return }
            try body(String(word), start)
            word.removeAll()
        }
        let single = single
        var position = 0
        var rest = text.unicodeScalars[...]
        while let scalar = rest.popFirst() {
            if word.isEmpty { start = position }
            position += 1
            if scalar.isSpace {
                try end()
            } else if rule == .whiteSpace {
                word.append(scalar)
            } else if scalar == "\"" {
                continue
            } else if scalar == "<", let (after, length) = endOfBreak(rest) {
                try end()
                rest = after
                position += length
            } else if scalar.isASCII, let replacement = single[Int(scalar.value)] {
                try end()
                if replacement != " " { try body(String(scalar), position - 1) }
            } else if scalar.isASCII {
                word.append(("A"..."Z").contains(scalar) ? Unicode.Scalar(UInt8(scalar.value) + 32) : scalar)
            } else {
                word.append(contentsOf: scalar.properties.lowercaseMapping.unicodeScalars)
            }
        }
        try end()
    }

    /// What `basic_english` makes of a character of ASCII, where it makes something else of it.
    private static let single: [String?] = (0..<128).map { number in
        replacements.first { $0.0.utf8.elementsEqual([number]) }?.1
    }

    /// What follows `<br />` where that is what goes on after its first character, and how long the rest of it is. Quotes, which are
    /// dropped, may lie within.
    private static func endOfBreak(
        _ text: Substring.UnicodeScalarView
    ) -> (after: Substring.UnicodeScalarView, length: Int)? {
        var (rest, length) = (text, 0)
        for expected in ["b", "r", " ", "/", ">"] as [Unicode.Scalar] {
            repeat {
                guard let next = rest.popFirst() else { return nil }
                length += 1
                if next == "\"" { continue }
                guard next.properties.lowercaseMapping.unicodeScalars.elementsEqual([expected]) else { return nil }
                break
            } while true
        }
        return (rest, length)
    }
}

extension Unicode.Scalar {
    /// White space, told at once of ASCII.
    fileprivate var isSpace: Bool {
        isASCII ? value == 0x20 || (0x09...0x0d).contains(value) : properties.isWhitespace
    }
}
