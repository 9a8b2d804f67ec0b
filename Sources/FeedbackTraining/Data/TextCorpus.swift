import FeedbackTransformer
import Foundation

/// A text to train on: the first nine tenths for training, the rest for validation; or all of it for training, and another text for
/// validation.
public struct TextCorpus: Corpus {
    public let name: String
    private let source: Source
    private var validation: Validation?
    /// Whether a file of it, or of the text for validation, has lines with fields.
    private(set) var hasFields = false

    private enum Source: Sendable {
        case memory(String)
        case files(TokenCache)

        func tokens(_ tokenizer: Tokenizer) throws -> Tokens {
            switch self {
            case .memory(let text): Tokens(try tokenizer.encode(text), vocabulary: tokenizer.vocabularySize)
            case .files(let cache): try cache.entry(tokenizer).tokens
            }
        }

        func add(to vocabulary: inout Vocabulary) throws {
            switch self {
            case .memory(let text): vocabulary.add(text)
            case .files(let cache): try cache.add(to: &vocabulary)
            }
        }
    }

    private struct Validation: Sendable {
        let name: String
        let source: Source
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

    /// The same text, all of it for training, with another for validation.
    public func validated(by other: TextCorpus) -> TextCorpus {
        var corpus = self
        corpus.validation = Validation(name: other.name, source: other.source)
        corpus.hasFields = hasFields || other.hasFields
        return corpus
    }

    /// A text in UTF-8: a file, several with commas between them, or all files in a folder, read as if they were one. What is
    /// larger than 32 MiB is not held in memory: it is turned into tokens once, which are kept in the cache.
    ///
    /// - Parameters:
    ///   - path: of the file or files.
    ///   - name: what the text is called; where nil, as its path.
    ///   - field: the field of a line that has a text, in `.jsonl` files; where nil, `text`.
    ///   - progress: called again and again while it is turned into tokens.
    public init(
        path: String, name: String? = nil, field: String? = nil,
        progress: @escaping @Sendable (CorpusProgress) -> Void = { _ in }
    ) throws {
        try self.init(
            path: path, name: name, mostInMemory: Self.mostInMemory, files: TextFiles(path, field: field),
            progress: progress)
    }

    init(
        path: String, name: String? = nil, mostInMemory: Int, files: TextFiles,
        cache: URL = cacheFolder, progress: @escaping @Sendable (CorpusProgress) -> Void = { _ in }
    ) throws {
        guard files.size <= mostInMemory else {
            self.init(
                name ?? path, .files(TokenCache(files, in: cache.appending(path: "tokens"), progress: progress)))
            hasFields = !files.fields.isEmpty
            return
        }
        var text = ""
        try files.forEachPiece { piece, _ in text += piece }
        try self.init(name: name ?? path, text: text)
        hasFields = !files.fields.isEmpty
    }

    /// The corpus of a known name, or the text of a path: of a file, of several with commas between them, or of all in a folder.
    public static func named(
        _ nameOrPath: String, field: String? = nil, progress: @escaping @Sendable (CorpusProgress) -> Void = { _ in }
    ) async throws -> TextCorpus {
        if let known = KnownCorpus.all.first(where: { $0.name == nameOrPath.replacingOccurrences(of: "-", with: "_") })
        {
            return try await known.load(progress: progress)
        }
        return try TextCorpus(path: nameOrPath, field: field, progress: progress)
    }

    /// A path, or several, as it means the same from everywhere; of `-` that of a file in the cache that gets what standard input
    /// has. A name stays as it is.
    public static func absolute(_ path: String) throws -> String {
        path == "-" ? try TextFiles.keepStandardInput(in: cacheFolder) : TextFiles.absolute(path)
    }

    public var readsAsStreams: Bool { false }

    public func name(of part: CorpusPart) -> String {
        if part == .validation, let validation { validation.name } else { name }
    }

    /// The vocabulary is of all of a text, and of the one for validation; BPE's merges are learned from the training part only.
    public func tokenizer(_ kind: Tokenizer.Kind?, size: Int) throws -> Tokenizer {
        let kind = kind ?? .characters
        if kind == .bpe { return try bytePairs(size) }
        if let validation {
            var vocabulary = Vocabulary(kind)
            try source.add(to: &vocabulary)
            try validation.source.add(to: &vocabulary)
            return try vocabulary.tokenizer()
        }
        return switch source {
        case .memory(let text): try Tokenizer(kind, text: text)
        case .files(let cache): try cache.entry(kind).tokenizer
        }
    }

    private func bytePairs(_ size: Int) throws -> Tokenizer {
        let share = validation == nil ? Self.trainingShare : 1
        switch source {
        case .memory(let text):
            var vocabulary = Vocabulary(.bpe, size: size)
            vocabulary.add(text.prefix(bytes: Int(share * Double(text.utf8.count))))
            return try vocabulary.tokenizer()
        case .files(let cache): return try cache.bytePairs(size, share: share)
        }
    }

    private static let trainingShare = 0.9

    /// Training has the first int(0.9 · n) tokens, validation the others, but for a text of its own.
    public func stream(_ part: CorpusPart, _ tokenizer: Tokenizer) throws -> TokenStream {
        if part == .validation, let validation {
            let tokens = try validation.source.tokens(tokenizer)
            return TokenStream(tokens, 0..<tokens.count, tokenizer)
        }
        let tokens = try source.tokens(tokenizer)
        let training = validation == nil ? Int(Self.trainingShare * Double(tokens.count)) : tokens.count
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

extension String {
    /// The beginning, of at most so many bytes.
    func prefix(bytes count: Int) -> String {
        var bytes = utf8.prefix(count)
        while let next = utf8[bytes.endIndex...].first, next & 0xc0 == 0x80, bytes.popLast() != nil {}
        return String(decoding: bytes, as: UTF8.self)
    }
}
