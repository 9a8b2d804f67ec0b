import Foundation

/// One token for every different character of a text, in the order of their Unicode scalars.
///
/// Its file loads in Hugging Face's `tokenizers`: a BPE model with a vocabulary and no merges.
public struct CharacterTokenizer: Equatable, Sendable {
    /// The characters by token.
    public let characters: [Unicode.Scalar]
    private let tokens: [Unicode.Scalar: Int32]

    /// The vocabulary of a text: its different characters, sorted.
    public init(_ text: String) {
        self.init(characters: Set(text.unicodeScalars).sorted())
    }

    private init(characters: [Unicode.Scalar]) {
        self.characters = characters
        tokens = Dictionary(uniqueKeysWithValues: zip(characters, 0...))
    }

    public var vocabularySize: Int { characters.count }

    /// The tokens of a text. Throws on a character outside the vocabulary, which it names with its position.
    public func encode(_ text: String) throws(TokenizerError) -> [Int32] {
        var encoded: [Int32] = []
        encoded.reserveCapacity(text.utf8.count)
        for (position, character) in text.unicodeScalars.enumerated() {
            guard let token = tokens[character] else { throw .unknownCharacter(character, position: position) }
            encoded.append(token)
        }
        return encoded
    }

    /// The text of some tokens. Traps on a token outside the vocabulary.
    public func decode(_ tokens: some Sequence<Int32>) -> String {
        var text = String.UnicodeScalarView()
        for token in tokens { text.append(characters[Int(token)]) }
        return String(text)
    }

    // MARK: File

    /// The parts of the file that say something; `tokenizers` takes the rest for absent.
    private struct File: Codable {
        struct Model: Codable {
            var type = "BPE"
            var vocab: [String: Int]
            var merges: [String] = []
        }
        struct Decoder: Codable {
            var type = "Fuse"
        }
        var version = "1.0"
        var decoder = Decoder()
        var model: Model
        var addedTokens: [String] = []

        enum CodingKeys: String, CodingKey {
            case version, decoder, model
            case addedTokens = "added_tokens"
        }
    }

    public func write(to file: URL) throws {
        let vocabulary = Dictionary(uniqueKeysWithValues: zip(characters.map { String($0) }, 0...))
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        let data = try encoder.encode(File(model: .init(vocab: vocabulary)))
        try writeFile(file) { try $0.write(contentsOf: data) }
    }

    public init(contentsOf file: URL) throws {
        let data = try readRegularFile(file)
        guard let parsed = try? JSONDecoder().decode(File.self, from: data) else {
            throw TokenizerError.malformed("\(file.path) is not a character tokenizer")
        }
        guard parsed.model.type == "BPE", parsed.model.merges.isEmpty, parsed.addedTokens.isEmpty else {
            throw TokenizerError.malformed("\(file.path) is not a character tokenizer: it must be BPE without merges")
        }
        var characters: [Unicode.Scalar?] = Array(repeating: nil, count: parsed.model.vocab.count)
        for (text, token) in parsed.model.vocab {
            guard text.unicodeScalars.count == 1, characters.indices.contains(token), characters[token] == nil else {
                throw TokenizerError.malformed(
                    "\(file.path) is not a character tokenizer: \(text.debugDescription) has the token \(token)")
            }
            characters[token] = text.unicodeScalars.first
        }
        guard !characters.isEmpty else { throw TokenizerError.malformed("\(file.path) has an empty vocabulary") }
        self.init(characters: characters.compactMap(\.self))
    }
}

public enum TokenizerError: Error, Equatable, CustomStringConvertible {
    case unknownCharacter(Unicode.Scalar, position: Int)
    case malformed(String)

    public var description: String {
        switch self {
        case .unknownCharacter(let character, let position):
            "the character \(String(character).debugDescription) at position \(position) is not in the model's "
                + "vocabulary; leave it out or train on text that has it"
        case .malformed(let what): what
        }
    }
}
