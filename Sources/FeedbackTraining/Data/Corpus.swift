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

/// Tokens, and at each the token to predict.
public struct TokenStream: Equatable, Sendable {
    public let inputs: [Int32]
    /// As many; negative where nothing is to be predicted.
    public let targets: [Int32]
    /// The characters that the targets stand for.
    public let characters: Int
    /// Where the sequences of a task begin, in order: nothing before is needed there. None in a text.
    public let starts: [Int]

    public init(inputs: [Int32], targets: [Int32], characters: Int, starts: [Int] = []) {
        precondition(inputs.count == targets.count)
        self.starts = starts
        self.inputs = inputs
        self.targets = targets
        self.characters = characters
    }

    /// Every token but the first, to be predicted from those before it.
    public init(_ tokens: [Int32], characters: Int? = nil) {
        self.init(
            inputs: Array(tokens.dropLast()), targets: Array(tokens.dropFirst()),
            characters: characters ?? max(0, tokens.count - 1))
    }

    public var count: Int { inputs.count }
}

/// Data that cannot be had or used, with what would do instead.
public struct CorpusError: Error, Equatable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}

/// The corpus of a known name, the task of one, or the text file of that path.
///
/// - Parameter progress: called with the bytes that have arrived during a download.
public func corpus(
    named nameOrPath: String, progress: @escaping @Sendable (Int) -> Void = { _ in }
) async throws -> any Corpus {
    if let task = TaskCorpus.all.first(where: { $0.name == nameOrPath }) { return task }
    return try await TextCorpus.named(nameOrPath, progress: progress)
}
