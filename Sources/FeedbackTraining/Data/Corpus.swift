import FeedbackTransformer

/// What a model is trained on and measured by: a text, or a task that makes its own sequences.
public protocol Corpus: Sendable {
    var name: String { get }

    /// The tokenizer of that kind, or the usual one where nil. Throws where the corpus has no such tokens.
    func tokenizer(_ kind: Tokenizer.Kind?) throws -> Tokenizer

    /// A part as tokens and what is to be predicted at each. Throws where the corpus has no such part.
    func stream(_ part: CorpusPart, _ tokenizer: Tokenizer) throws -> TokenStream

    /// Whether it is read as contiguous streams, with memory carried, where nothing else is asked for.
    var readsAsStreams: Bool { get }
}

/// The parts of a corpus.
public enum CorpusPart: String, CaseIterable, Sendable { case training, validation, test, all }

/// Data that cannot be had or used, with what would do instead.
public struct CorpusError: Error, Equatable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}

/// How far data has been had or read.
public struct CorpusProgress: Sendable {
    public enum Work: String, Sendable {
        case downloading, reading
        /// Turning a text that is too large for memory into tokens, once.
        case encoding
    }
    public let work: Work
    /// In bytes, of how many.
    public let done, total: Int
    /// Since it began.
    public let seconds: Double
}

/// The corpus of a known name, the task of one, or the text of a file, of several with commas between them, or of all in a folder.
/// `progress` is called again and again on long work, there and when the corpus is read.
public func corpus(
    named nameOrPath: String, progress: @escaping @Sendable (CorpusProgress) -> Void = { _ in }
) async throws -> any Corpus {
    if let task = TaskCorpus.all.first(where: { $0.name == nameOrPath }) { return task }
    return try await TextCorpus.named(nameOrPath, progress: progress)
}
