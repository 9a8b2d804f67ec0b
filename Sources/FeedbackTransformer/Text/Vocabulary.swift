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
    private var words: [String: String] = [:]
    private var pairs = BPETrainer()
    private let size: Int

    /// The tokens of a BPE tokenizer, where nothing else is asked for.
    public static let usualSize = 8000
    /// The tokens that a BPE tokenizer may have.
    public static let sizes = 257...65536

    /// - Parameter size: of BPE, how many tokens to have, at most.
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
        WordTokenizer.forEachWord(of: text, by: rule) { word, _ in
            if words[word] == nil { words[word] = word }
        }
    }

    /// Throws where two characters are the same to Unicode, so that a file could not tell them apart: a text that has not been
    /// normalized.
    public func tokenizer() throws(TokenizerError) -> Tokenizer {
        switch kind {
        case .characters: .characters(try characterTokenizer())
        case .bytes: .bytes
        case .words: .words(WordTokenizer(words: words.values.sorted(), rule: .basicEnglish))
        case .symbols: .words(WordTokenizer(words: words.values.sorted(), rule: .whiteSpace))
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
