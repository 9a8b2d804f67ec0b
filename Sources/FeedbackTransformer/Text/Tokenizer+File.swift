import Foundation

// `tokenizer.json`, as Hugging Face's `tokenizers` reads it:
//
//   characters   a BPE model with a vocabulary and no merges
//   bytes        a BPE model too, on printable characters that stand for the bytes, as in GPT-2
//   words        a WordLevel model on what white space separates, after `basic_english`
//   symbols      a WordLevel model on what white space separates
//   BPE          a BPE model on such characters too: BPE/BPETokenizer+File.swift

/// The parts of the file that are used; for `tokenizers`, all others are absent.
private struct TokenizerFile: Codable, Equatable {
    struct Model: Codable, Equatable {
        var type: String
        var vocab: [String: Int]
        var merges: [String]?
        var unknown: String?

        enum CodingKeys: String, CodingKey {
            case type, vocab, merges
            case unknown = "unk_token"
        }
    }
    /// A normalizer, pre-tokenizer or decoder.
    struct Stage: Codable, Equatable {
        var type: String
        var normalizers: [Stage]?
        var pattern: [String: String]?
        var content: String?
        var addPrefixSpace, trimOffsets, useRegex: Bool?

        enum CodingKeys: String, CodingKey {
            case type, normalizers, pattern, content
            case addPrefixSpace = "add_prefix_space"
            case trimOffsets = "trim_offsets"
            case useRegex = "use_regex"
        }

        static let fuse = Stage(type: "Fuse")
        static let bytes = Stage(type: "ByteLevel", addPrefixSpace: false, trimOffsets: false, useRegex: false)
        static let whiteSpace = Stage(type: "WhitespaceSplit")
        static let basicEnglish = Stage(
            type: "Sequence",
            normalizers: [Stage(type: "Lowercase")]
                + WordTokenizer.replacements.map {
                    Stage(type: "Replace", pattern: ["String": $0.0], content: $0.1)
                })
    }
    var version = "1.0"
    var normalizer, preTokenizer, decoder: Stage?
    var model: Model
    var addedTokens: [String] = []

    enum CodingKeys: String, CodingKey {
        case version, normalizer, decoder, model
        case preTokenizer = "pre_tokenizer"
        case addedTokens = "added_tokens"
    }
}

/// The characters that stand for the 256 bytes: printable ones for themselves, the others for those from U+0100 on.
let byteCharacters: [Unicode.Scalar] = {
    let printable = [33...126, 161...172, 174...255].joined()
    let others = (0..<256).filter { !printable.contains($0) }
    return (0..<256).map { byte in
        Unicode.Scalar(UInt32(others.firstIndex(of: byte).map { 256 + $0 } ?? byte))!
    }
}()

extension Tokenizer {
    /// Nil of BPE.
    private var file: TokenizerFile? {
        func vocabulary(_ texts: [String]) -> [String: Int] { Dictionary(uniqueKeysWithValues: zip(texts, 0...)) }
        switch self {
        case .characters(let tokenizer):
            return TokenizerFile(
                decoder: .fuse,
                model: .init(type: "BPE", vocab: vocabulary(tokenizer.characters.map { String($0) }), merges: []))
        case .bytes:
            return TokenizerFile(
                preTokenizer: .bytes, decoder: .bytes,
                model: .init(type: "BPE", vocab: vocabulary(byteCharacters.map { String($0) }), merges: []))
        case .words(let tokenizer):
            return TokenizerFile(
                normalizer: tokenizer.rule == .basicEnglish ? .basicEnglish : nil, preTokenizer: .whiteSpace,
                model: .init(type: "WordLevel", vocab: vocabulary(tokenizer.words), unknown: "<unk>"))
        case .bpe: return nil
        }
    }

    /// What the file has.
    package func data() throws -> Data {
        if case .bpe(let tokenizer) = self { return Data(tokenizer.file.bytes) }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(file)
    }

    public func write(to file: URL) throws {
        let data = try data()
        try writeFile(file) { try $0.write(contentsOf: data) }
    }

    /// The bytes that a file may have.
    private static let mostBytes = 1 << 28

    /// Reads a file that such a tokenizer has written, or one of byte-level BPE from elsewhere, such as GPT-2's. Throws on any
    /// other, with what is not known of it.
    public init(contentsOf file: URL) throws {
        let data = try readRegularFile(file) { _, size in
            if size > Self.mostBytes {
                throw TokenizerError.malformed("\(file.path) is not a tokenizer: it has \(size) bytes")
            }
        }
        if let json = try? JSON(parsing: Array(data)), BPETokenizer.isIn(json) {
            do { self = .bpe(try BPETokenizer(json)) } catch {
                throw TokenizerError.malformed(oneLine("\(file.path) cannot be used: \(error.what)"))
            }
            return
        }
        guard let parsed = try? JSONDecoder().decode(TokenizerFile.self, from: data) else {
            throw TokenizerError.malformed("\(file.path) is not a tokenizer")
        }
        var texts: [String?] = Array(repeating: nil, count: parsed.model.vocab.count)
        for (text, token) in parsed.model.vocab {
            guard !text.isEmpty, texts.indices.contains(token), texts[token] == nil else {
                throw TokenizerError.malformed(
                    oneLine("\(file.path) is damaged: \(text.debugDescription) has the token \(token)"))
            }
            texts[token] = text
        }
        guard !texts.isEmpty else { throw TokenizerError.malformed("\(file.path) has an empty vocabulary") }
        if parsed.model.type == "WordLevel" {
            self = .words(
                WordTokenizer(
                    words: texts.compactMap(\.self), rule: parsed.normalizer == nil ? .whiteSpace : .basicEnglish))
        } else if parsed.preTokenizer != nil {
            self = .bytes
        } else {
            let characters = texts.compactMap { $0?.unicodeScalars.first }
            guard Set(characters).count == texts.count, texts.allSatisfy({ $0?.unicodeScalars.count == 1 }) else {
                throw TokenizerError.malformed("\(file.path) is not a tokenizer of characters")
            }
            self = .characters(CharacterTokenizer(characters: characters))
        }
        guard self.file == parsed else {
            throw TokenizerError.malformed(
                "\(file.path) is of a kind that is not known here; it must be of characters, bytes or words, as written by "
                    + "feedback train, or byte-level BPE")
        }
    }
}
