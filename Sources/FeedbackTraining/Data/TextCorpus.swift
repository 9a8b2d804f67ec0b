import FeedbackTransformer
import Foundation

/// A text to train on: the first nine tenths for training, the rest for validation.
public struct TextCorpus: Corpus {
    public let name: String
    public let text: String

    public init(name: String, text: String) throws(CorpusError) {
        guard !text.isEmpty else { throw CorpusError("\(name) is empty; give a text to train on") }
        self.name = name
        self.text = text
    }

    /// A UTF-8 text file.
    public init(contentsOf file: URL) throws {
        guard let text = String(validating: try readRegularFile(file), as: UTF8.self) else {
            throw CorpusError("\(file.path) is not UTF-8 text; convert it first, for example with iconv -t utf-8")
        }
        // A byte order mark says how a file is encoded, and is no character of its text.
        try self.init(
            name: file.path,
            text: text.unicodeScalars.first == "\u{feff}" ? String(text.unicodeScalars.dropFirst()) : text)
    }

    public var readsAsStreams: Bool { false }

    public func tokenizer(_ kind: Tokenizer.Kind?) throws -> Tokenizer {
        try Tokenizer(kind ?? .characters, text: text)
    }

    /// Training has the first int(0.9 · n) tokens, validation the others.
    public func stream(_ part: CorpusPart, _ tokenizer: Tokenizer) throws -> TokenStream {
        let tokens = try tokenizer.encode(text)
        let training = Int(0.9 * Double(tokens.count))
        let own: ArraySlice<Int32> =
            switch part {
            case .training: tokens[..<training]
            case .validation: tokens[training...]
            case .all: tokens[...]
            case .test: throw CorpusError("\(name) has no test part; use validation")
            }
        return TokenStream(
            Array(own),
            characters: tokenizer.kind == .characters ? nil : tokenizer.decode(own.dropFirst()).unicodeScalars.count)
    }
}
