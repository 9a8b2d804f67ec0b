import FeedbackTransformer
import Foundation

/// A text to train on: the first nine tenths for training, the rest for validation.
public struct TextCorpus: Sendable {
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
        try self.init(name: file.path, text: text)
    }

    /// Tokens for training and for validation: the first int(0.9 · n) characters, and the others.
    public func split(_ tokenizer: CharacterTokenizer) throws(TokenizerError) -> (
        training: [Int32], validation: [Int32]
    ) {
        let tokens = try tokenizer.encode(text)
        let training = Int(0.9 * Double(tokens.count))
        return (Array(tokens[..<training]), Array(tokens[training...]))
    }
}

/// A text that cannot be had or used, with what would do instead.
public struct CorpusError: Error, Equatable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}
