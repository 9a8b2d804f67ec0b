import Foundation

/// Turns text into tokens and back: by characters, bytes, words, or pairs of bytes that were merged.
///
/// ```swift
/// let tokenizer = Tokenizer(.words, text: "To be, or not to be")
/// try tokenizer.encode("not to be")                       // [3, 5, 1]
/// ```
public enum Tokenizer: Equatable, Sendable {
    case characters(CharacterTokenizer)
    /// The 256 bytes of UTF-8.
    case bytes
    case words(WordTokenizer)
    case bpe(BPETokenizer)

    public enum Kind: String, CaseIterable, Sendable {
        /// The characters of a text.
        case characters
        /// The bytes of its UTF-8.
        case bytes
        /// Lower-case words and punctuation marks, as torchtext's `basic_english`.
        case words
        /// Whatever white space separates.
        case symbols
        /// Byte-level byte-pair encoding.
        case bpe

        /// What its tokens are called.
        package var tokens: String { self == .bpe ? "tokens" : rawValue }
    }

    /// A tokenizer whose vocabulary is what occurs in a text (see `Vocabulary`).
    ///
    /// - Parameters:
    ///   - kind: what a token is.
    ///   - text: what it is made of.
    ///   - size: of BPE, how many tokens to have, at most.
    public init(_ kind: Kind, text: String, size: Int = Vocabulary.usualSize) throws(TokenizerError) {
        var vocabulary = Vocabulary(kind, size: size)
        vocabulary.add(text)
        self = try vocabulary.tokenizer()
    }

    public var kind: Kind {
        switch self {
        case .characters: .characters
        case .bytes: .bytes
        case .words(let tokenizer): tokenizer.rule == .basicEnglish ? .words : .symbols
        case .bpe: .bpe
        }
    }

    public var vocabularySize: Int {
        switch self {
        case .characters(let tokenizer): tokenizer.characters.count
        case .bytes: 256
        case .words(let tokenizer): tokenizer.words.count
        case .bpe(let tokenizer): tokenizer.tokens.count
        }
    }

    /// The tokens of a text. Throws on what is not in the vocabulary, which it names with its position.
    public func encode(_ text: String) throws(TokenizerError) -> [Int32] {
        switch self {
        case .characters(let tokenizer): try tokenizer.encode(text)
        case .bytes: text.utf8.map(Int32.init)
        case .words(let tokenizer): try tokenizer.encode(text)
        case .bpe(let tokenizer): tokenizer.encode(text)
        }
    }

    /// Encodes one piece of a text after the other, faster than each by itself. Of BPE and words, pieces end where a word does.
    package func encoder() -> (String) throws(TokenizerError) -> [Int32] {
        guard case .bpe(let tokenizer) = self else { return encode }
        var encoder = BPEEncoder(tokenizer)
        return { text throws(TokenizerError) in encoder.encode(text) }
    }

    /// What stands between two tokens: a space between words, otherwise nothing.
    public var separator: String { if case .words = self { " " } else { "" } }

    /// What stands between a text and the next token.
    public func separator(after text: String) -> String {
        guard let last = text.unicodeScalars.last else { return "" }
        return last.properties.isWhitespace ? "" : separator
    }

    /// A token's text as UTF-8; of a byte, that byte. Traps on a token outside the vocabulary.
    public func bytes(of token: Int32) -> [UInt8] {
        switch self {
        case .characters(let tokenizer): Array(String(tokenizer.characters[Int(token)]).utf8)
        case .bytes: [UInt8(token)]
        case .words(let tokenizer): Array(tokenizer.words[Int(token)].utf8)
        case .bpe(let tokenizer): tokenizer.tokens[Int(token)]
        }
    }

    /// The text of some tokens; bytes that are no UTF-8 become U+FFFD. Traps on a token outside the vocabulary.
    public func decode(_ tokens: some Sequence<Int32>) -> String {
        String(decoding: Array(tokens.map(bytes(of:)).joined(separator: separator.utf8)), as: UTF8.self)
    }
}

public enum TokenizerError: Error, Equatable, CustomStringConvertible {
    case unknownCharacter(Unicode.Scalar, position: Int)
    case unknownWord(String, position: Int)
    case malformed(String)

    /// The same in a text of which this one is a part.
    package func moved(by characters: Int) -> TokenizerError {
        switch self {
        case .unknownCharacter(let character, let position):
            .unknownCharacter(character, position: position + characters)
        case .unknownWord(let word, let position): .unknownWord(word, position: position + characters)
        case .malformed: self
        }
    }

    public var description: String {
        switch self {
        case .unknownCharacter(let character, let position):
            Self.unknown("character", String(character), position) + Self.hint(character)
        case .unknownWord(let word, let position): Self.unknown("word", word, position)
        case .malformed(let what): what
        }
    }

    /// The code point, as many characters look alike, and what it often means.
    private static func hint(_ character: Unicode.Scalar) -> String {
        let code = String(character.value, radix: 16, uppercase: true)
        let padding = String(repeating: "0", count: max(0, 4 - code.count))
        let properties = character.properties
        let what =
            properties.canonicalCombiningClass != .notReordered
            ? "a combining mark: the text may be decomposed (NFD) where the model's is composed (NFC)"
            : String(character).decomposedStringWithCanonicalMapping.unicodeScalars.count > 1
                ? "composed (NFC), where the model's text may be decomposed (NFD)" : nil
        return " (U+\(padding)\(code)" + (what.map { ", \($0)" } ?? "") + ")"
    }

    private static func unknown(_ kind: String, _ text: String, _ position: Int) -> String {
        "the \(kind) \(text.debugDescription) at position \(position) is not in the model's vocabulary; leave it out or "
            + "train on text that has it"
    }
}

/// One token for every different character of a text, in the order of their Unicode scalars.
public struct CharacterTokenizer: Equatable, Sendable {
    /// The characters by token.
    public let characters: [Unicode.Scalar]
    /// By the character's number, as far as there are any; −1 for one that has none.
    private let tokens: [Int32]

    /// - Precondition: no character is there twice.
    init(characters: [Unicode.Scalar]) {
        self.characters = characters
        var tokens = Array(repeating: Int32(-1), count: characters.map { Int($0.value) + 1 }.max() ?? 0)
        for (token, character) in characters.enumerated() { tokens[Int(character.value)] = Int32(token) }
        self.tokens = tokens
    }

    func encode(_ text: String) throws(TokenizerError) -> [Int32] {
        var encoded: [Int32] = []
        encoded.reserveCapacity(text.utf8.count)
        for (position, character) in text.unicodeScalars.enumerated() {
            let number = Int(character.value)
            guard number < tokens.count, tokens[number] >= 0 else {
                throw .unknownCharacter(character, position: position)
            }
            encoded.append(tokens[number])
        }
        return encoded
    }
}

/// Gathers what occurs in a text, a piece at a time.
///
/// ```swift
/// var vocabulary = Vocabulary(.words)
/// for line in lines { vocabulary.add(line) }
/// let tokenizer = try vocabulary.tokenizer()
/// ```
public struct Vocabulary {
    private let kind: Tokenizer.Kind
    /// By the character's number: whether it occurs.
    private var characters: [Bool]
    /// Words that are the same to Unicode are one; of their spellings the first counts.
    private var words: Set<String> = []
    private var pairs = BPETrainer()
    private let size: Int

    /// The tokens of a BPE tokenizer, where nothing else is asked for.
    public static let usualSize = 8000
    /// The tokens that a BPE tokenizer may have.
    public static let sizes = 257...65536

    /// - Parameters:
    ///   - kind: what a token is.
    ///   - size: of BPE, how many tokens to have, at most.
    public init(_ kind: Tokenizer.Kind, size: Int = Self.usualSize) {
        precondition(Self.sizes.contains(size), "a vocabulary of \(size)")
        self.kind = kind
        self.size = size
        characters = Array(repeating: false, count: kind == .characters ? 0x11_0000 : 0)
    }

    /// Takes in a piece; of words and BPE, one that ends where a word does.
    public mutating func add(_ text: String) {
        switch kind {
        case .characters: for character in text.unicodeScalars { characters[Int(character.value)] = true }
        case .bytes: break
        case .words: add(text, rule: .basicEnglish)
        case .symbols: add(text, rule: .whiteSpace)
        case .bpe: pairs.add(text)
        }
    }

    private mutating func add(_ text: String, rule: WordTokenizer.Rule) {
        WordTokenizer.forEachWord(of: text, by: rule) { word, _ in words.insert(word) }
    }

    /// Throws where two characters are the same to Unicode, so that a file could not tell them apart: a text that has not been
    /// normalized.
    public func tokenizer() throws(TokenizerError) -> Tokenizer {
        switch kind {
        case .characters: .characters(try characterTokenizer())
        case .bytes: .bytes
        case .words: .words(WordTokenizer(words: words.sorted(), rule: .basicEnglish))
        case .symbols: .words(WordTokenizer(words: words.sorted(), rule: .whiteSpace))
        case .bpe: .bpe(pairs.tokenizer(size: size))
        }
    }

    private func characterTokenizer() throws(TokenizerError) -> CharacterTokenizer {
        let found = characters.indices.filter { characters[$0] }.compactMap { Unicode.Scalar(UInt32($0)) }
        var seen: [String: Unicode.Scalar] = [:]
        for character in found {
            if let same = seen.updateValue(character, forKey: String(character)) {
                func name(_ scalar: Unicode.Scalar) -> String {
                    "U+" + String(scalar.value, radix: 16, uppercase: true)
                }
                throw .malformed(
                    "the text has both \(name(same)) and \(name(character)), two codes of one character; normalize it "
                        + "first, for example with uconv -x nfc, or use --tokenizer bytes")
            }
        }
        return CharacterTokenizer(characters: found)
    }
}
