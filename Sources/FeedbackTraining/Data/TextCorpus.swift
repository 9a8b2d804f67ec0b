import FeedbackTransformer
import Foundation

/// A text to train on: the first nine tenths for training, the rest for validation.
public struct TextCorpus: Corpus {
    public let name: String
    private let source: Source

    private enum Source: Sendable {
        case memory(String)
        case files(TokenCache)
    }

    /// The bytes up to which a text is held in memory.
    static let mostInMemory = 32 << 20

    public init(name: String, text: String) throws(CorpusError) {
        guard !text.isEmpty else { throw CorpusError("\(name) is empty; give a text to train on") }
        self.init(name, .memory(text))
    }

    private init(_ name: String, _ source: Source) {
        self.name = name
        self.source = source
    }

    /// A text in UTF-8: a file, several with commas between them, or all files in a folder, read as if they were one. What is
    /// larger than 32 MiB is not held in memory: it is turned into tokens once, which are kept in the cache; `progress` is called
    /// again and again meanwhile.
    public init(
        path: String, name: String? = nil, progress: @escaping @Sendable (CorpusProgress) -> Void = { _ in }
    ) throws {
        try self.init(path: path, name: name, mostInMemory: Self.mostInMemory, progress: progress)
    }

    init(
        path: String, name: String? = nil, mostInMemory: Int, files: TextFiles? = nil,
        cache: URL = KnownCorpus.cache, progress: @escaping @Sendable (CorpusProgress) -> Void = { _ in }
    ) throws {
        let files = try files ?? TextFiles(path)
        guard files.size <= mostInMemory else {
            self.init(
                name ?? path, .files(TokenCache(files, in: cache.appending(path: "tokens"), progress: progress)))
            return
        }
        var text = ""
        try files.forEachPiece { piece, _ in text += piece }
        try self.init(name: name ?? path, text: text)
    }

    /// The corpus of a known name, or the text of a path: of a file, of several with commas between them, or of all in a folder.
    public static func named(
        _ nameOrPath: String, progress: @escaping @Sendable (CorpusProgress) -> Void = { _ in }
    ) async throws -> TextCorpus {
        if let known = KnownCorpus.all.first(where: { $0.name == nameOrPath.replacingOccurrences(of: "-", with: "_") })
        {
            return try await known.load(progress: progress)
        }
        return try TextCorpus(path: nameOrPath, progress: progress)
    }

    /// A path, or several, as it means the same from everywhere; of `-` that of a file in the cache that gets what standard input
    /// has. A name stays as it is.
    public static func absolute(_ path: String) throws -> String {
        path == "-" ? try TextFiles.keep(.standardInput, in: KnownCorpus.cache) : TextFiles.absolute(path)
    }

    public var readsAsStreams: Bool { false }

    public func tokenizer(_ kind: Tokenizer.Kind?) throws -> Tokenizer {
        switch source {
        case .memory(let text): try Tokenizer(kind ?? .characters, text: text)
        case .files(let cache): try cache.entry(kind ?? .characters).tokenizer
        }
    }

    /// Training has the first int(0.9 · n) tokens, validation the others.
    public func stream(_ part: CorpusPart, _ tokenizer: Tokenizer) throws -> TokenStream {
        let tokens =
            switch source {
            case .memory(let text): Tokens(try tokenizer.encode(text), vocabulary: tokenizer.vocabularySize)
            case .files(let cache): try cache.entry(tokenizer).tokens
            }
        let training = Int(0.9 * Double(tokens.count))
        let own: Range<Int> =
            switch part {
            case .training: 0..<training
            case .validation: training..<tokens.count
            case .all: 0..<tokens.count
            case .test: throw CorpusError("\(name) has no test part; use validation")
            }
        return TokenStream(tokens, own, tokenizer)
    }
}
