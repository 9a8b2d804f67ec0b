import FeedbackTransformer

/// A source of sequences with questions and answers, for a model to learn. Implement it to train on a task of your own:
///
/// ```swift
/// struct Parity: SequenceTask {
///     let name = "parity"
///     let summary = "whether the ones so far are even or odd"
///     let symbols = ["0", "1", "even", "odd"]
///
///     func sequence(using random: inout RandomSource) -> TaskSequence {
///         let bits = (0..<50).map { _ in Int32(random.below(2)) }
///         var ones: Int32 = 0
///         return TaskSequence(tokens: bits, answers: bits.map { bit in ones += bit; return 2 + ones % 2 })
///     }
/// }
/// let trainer = try Trainer(RunConfiguration(), corpus: TaskCorpus(Parity()))
/// ```
public protocol SequenceTask: Sendable {
    var name: String { get }
    /// For lists.
    var summary: String { get }
    /// What the tokens stand for, each different, none with white space in it.
    var symbols: [String] { get }
    /// One sequence. What it is may depend on the random source alone.
    func sequence(using random: inout RandomSource) -> TaskSequence
    /// How difficult a sequence can be made; nil where all are alike.
    var difficulties: ClosedRange<Int>? { get }
    /// One sequence of that difficulty, from 1 on: of so many statements, digits, or whatever makes it harder.
    func lesson(_ difficulty: Int, using random: inout RandomSource) -> TaskSequence
    /// A sequence for people to read, with what a model has answered wherever there is something to answer.
    func show(_ sequence: TaskSequence, answers: [Int32]) -> String
}

/// Tokens, and at each the answer that is due there: a token, negative where none is. An answer is no input: whatever the
/// model should see of it is among the tokens.
public struct TaskSequence: Equatable, Sendable {
    public var tokens: [Int32]
    public var answers: [Int32]
    /// More answers, where none is due: what would be right if one were. They help to learn and are never tested.
    public var hints: [Int32]?

    public init(tokens: [Int32], answers: [Int32], hints: [Int32]? = nil) {
        precondition(tokens.count == answers.count && hints.map { $0.count == tokens.count } ?? true)
        self.tokens = tokens
        self.answers = answers
        self.hints = hints
    }
}

extension SequenceTask {
    public var difficulties: ClosedRange<Int>? { nil }
    public func lesson(_ difficulty: Int, using random: inout RandomSource) -> TaskSequence { sequence(using: &random) }

    /// The symbols in order; after one that has an answer, the model's, and the right one if it is another.
    public func show(_ sequence: TaskSequence, answers: [Int32]) -> String {
        sequence.tokens.indices.map { index in
            let symbol = symbols[Int(sequence.tokens[index])]
            guard sequence.answers[index] >= 0 else { return symbol }
            return symbol + mark(answers[index], expected: sequence.answers[index])
        }.joined(separator: " ")
    }

    /// A sequence with a model's answers: at each step that has one, the likeliest token.
    func answered(by folder: ModelFolder, on backend: any Backend, sequence: TaskSequence) throws -> String {
        let decoder = try backend.decoding(folder.model, memoryWindow: folder.memoryWindow)
        let memory = decoder.makeSequence()
        let answers = sequence.tokens.map { token in
            let logits = decoder.step([memory], tokens: [token])[0]
            return Int32(logits.indices.max { logits[$0] < logits[$1] }!)
        }
        return show(sequence, answers: answers)
    }

    /// An answer with whether it is right.
    func mark(_ answer: Int32, expected: Int32) -> String {
        let right = answer == expected
        return " → \(symbols[Int(answer)])" + (right ? " ✓" : " ✗ (\(symbols[Int(expected)]))")
    }
}

/// So many sequences of a task for training, validation and test, the same ones always.
public struct TaskCorpus: Corpus {
    public let task: any SequenceTask
    /// How many sequences each part has.
    public let counts: [CorpusPart: Int]

    /// So many sequences for each part; those for training are for runs that read the same ones again and again.
    public init(_ task: any SequenceTask, training: Int = 10_000, validation: Int = 1000, test: Int = 1000) {
        precondition(Set(task.symbols).count == task.symbols.count, "a symbol of \(task.name) is there twice")
        self.task = task
        counts = [.training: training, .validation: validation, .test: test]
    }

    /// The tasks that are known by name.
    public static let all = [
        TaskCorpus(VariableAssignment(variables: 3)), TaskCorpus(VariableAssignment(variables: 5)),
        TaskCorpus(Copying(reversed: false)), TaskCorpus(Copying(reversed: true)),
    ]

    /// The same, with so many sequences for training.
    func with(training: Int) -> TaskCorpus {
        TaskCorpus(task, training: training, validation: counts[.validation]!, test: counts[.test]!)
    }

    public var name: String { task.name }
    public var readsAsStreams: Bool { true }

    public func tokenizer(_ kind: Tokenizer.Kind?, size: Int) throws -> Tokenizer {
        guard kind ?? .symbols == .symbols else {
            throw CorpusError("\(name) has symbols of its own for tokens; leave out --tokenizer")
        }
        return .words(WordTokenizer(words: task.symbols, rule: .whiteSpace))
    }

    /// The sequences of a part, one after the other.
    public func stream(_ part: CorpusPart, _ tokenizer: Tokenizer) throws -> TokenStream {
        try stream(part, tokenizer, difficulty: nil)
    }

    /// As many sequences of other difficulties as a part has of the standard one.
    public func stream(
        _ part: CorpusPart, _ tokenizer: Tokenizer, difficulty: ClosedRange<Int>?
    ) throws -> TokenStream {
        let choice = try difficulty.map { try DifficultyChoice($0, of: task) }
        guard tokenizer == (try self.tokenizer(nil)) else {
            throw CorpusError("the model's tokens are not those of \(name)")
        }
        let parts: [CorpusPart] = part == .all ? [.training, .validation, .test] : [part]
        var (inputs, targets, starts): ([Int32], [Int32], [Int]) = ([], [], [])
        for part in parts {
            var random = RandomSource(seed: UInt64(CorpusPart.allCases.firstIndex(of: part)!))
            for _ in 0..<counts[part]! {
                let sequence = task.sequence(choice, using: &random)
                starts.append(inputs.count)
                inputs += sequence.tokens
                targets += sequence.answers
            }
        }
        return TokenStream(inputs: inputs, targets: targets, starts: starts)
    }
}
