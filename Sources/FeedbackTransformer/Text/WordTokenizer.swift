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

    /// The vocabulary of a text: its different words, sorted.
    public init(_ text: String, rule: Rule) {
        // Words that are the same to Unicode are one; of their spellings the first counts.
        var words: [String: String] = [:]
        for (word, _) in Self.split(text, by: rule) where words[word] == nil { words[word] = word }
        self.init(words: words.values.sorted(), rule: rule)
    }

    /// - Precondition: no word is there twice.
    public init(words: [String], rule: Rule) {
        self.rule = rule
        self.words = words
        tokens = Dictionary(uniqueKeysWithValues: zip(words, 0...))
    }

    func encode(_ text: String) throws(TokenizerError) -> [Int32] {
        var encoded: [Int32] = []
        for (word, position) in Self.split(text, by: rule) {
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

    /// The words of a text, with the position of the character that each begins at.
    static func split(_ text: String, by rule: Rule) -> [(word: String, position: Int)] {
        var pieces = text.unicodeScalars.enumerated().map { (scalars: [$1], position: $0) }
        if rule == .basicEnglish { pieces = normalize(pieces) }
        var words: [(word: String, position: Int)] = []
        var isInside = false
        for (scalars, position) in pieces {
            for scalar in scalars {
                if scalar.properties.isWhitespace {
                    isInside = false
                } else if isInside {
                    words[words.count - 1].word.unicodeScalars.append(scalar)
                } else {
                    words.append((String(scalar), position))
                    isInside = true
                }
            }
        }
        return words
    }

    private typealias Pieces = [(scalars: [Unicode.Scalar], position: Int)]

    /// `replacements`, in one pass: only `<br />` is longer than a character, and quotes may lie within it.
    private static func normalize(_ pieces: Pieces) -> Pieces {
        let single = Dictionary(
            uniqueKeysWithValues: replacements.filter { $0.0.unicodeScalars.count == 1 }.map {
                ($0.0.unicodeScalars.first!, Array($0.1.unicodeScalars))
            })
        let tag = Array("<br />".unicodeScalars)
        var result: Pieces = []
        for (scalars, position) in pieces where scalars[0] != "\"" {
            let lower = Array(scalars[0].properties.lowercaseMapping.unicodeScalars)
            result.append((single[scalars[0]] ?? lower, position))
            if result.count >= tag.count, scalars[0] == ">",
                result.suffix(tag.count).elementsEqual(tag, by: { $0.scalars == [$1] })
            {
                let start = result[result.count - tag.count].position
                result.removeLast(tag.count)
                result.append(([" "], start))
            }
        }
        return result
    }
}
