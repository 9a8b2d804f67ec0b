import ArgumentParser
import FeedbackDevice
import FeedbackEngine
import FeedbackTraining
import FeedbackTransformer
import Foundation

struct Evaluate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measures how well a model predicts a text.",
        discussion: """
            Every token but the first is predicted once, from the memory of those before it; the memory is carried through \
            the data. Of a task, every answer.

            Examples:
              feedback evaluate runs/demo
              feedback evaluate model --data novel.txt --split all --json
              feedback evaluate model --precision int8
              feedback evaluate model --reset 64
              feedback evaluate runs/programs --split test --difficulty 1-20
            """)

    @Argument(help: "A model folder; or a run, its folder, id or name: its best checkpoint.", completion: .runs)
    var model: String

    @Option(
        help:
            "A data set's name, a text file, several with commas between them, or a folder; by default a run's own, else tiny_shakespeare.",
        completion: .data)
    var data: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "The field of a line that has a text, in .jsonl files; by default a run's own, else text.",
            valueName: "name"))
    var field: String?

    @Option(
        help: """
            Which part: of a text the run's validation file, or the last tenth (validation), the rest (training), or all; of \
            a task also its test.
            """
    )
    var split = CorpusPart.validation

    @Option(
        help: ArgumentHelp(
            "Of a task, sequences as difficult as that instead of the standard ones, such as 1-20.", valueName: "range")
    )
    var difficulty: Difficulty?

    @Option(parsing: .unconditional, help: "Memories a step sees; as many as in training by default.")
    var memoryWindow: Int?

    @Option(
        parsing: .unconditional,
        help: "Forget the memory after so many tokens, again and again, rather than carry it through the data.")
    var reset: Int?

    @Option(
        help: """
            Evaluate what `generate` computes in this precision, a step at a time; by default, float32 a segment at a time.
            """)
    var precision: DecodingPrecision?

    @Option(help: "What computes: \(DeviceName.choices).")
    var device = DeviceName.cpu

    @Option(parsing: .unconditional, help: "Worker threads.")
    var threads = ProcessInfo.processInfo.activeProcessorCount

    @Flag(help: "Print one JSON object.")
    var json = false

    @OptionGroup var history: HistoryOptions

    func run() async throws {
        var console = Console()
        let place = try history.folder(of: model)
        let (folder, note) = try openModel(place)
        let corpus = try await corpus(of: place, &console)
        let stream = try stream(of: corpus, folder.tokenizer)
        let window = memoryWindow ?? folder.memoryWindow
        guard window >= 1 && window <= folder.model.configuration.window else {
            throw ConfigurationError(
                "memory-window is \(window); this model allows 1 to \(folder.model.configuration.window)")
        }
        if let reset, !(1...4096).contains(reset) {
            throw ConfigurationError("reset is \(reset); it must be from 1 to 4096")
        }
        try checkThreads(threads)
        let evaluator: Evaluator
        if let precision {
            console.warnIfSlow(precision)
            let decoder = try device.backend(threads: threads, decodingPrecision: precision)
                .decoding(folder.model, memoryWindow: window)
            evaluator = try Evaluator(decoder, stream, reset: reset)
        } else {
            evaluator = try Evaluator(
                folder.model, stream, on: device.backend(threads: threads), memoryWindow: window, reset: reset)
        }
        if let note { console.print(note) }
        let start = ContinuousClock.now
        let evaluation = try evaluator.run { done in
            let left = (ContinuousClock.now - start) / .seconds(1) / Double(done) * Double(evaluator.targets - done)
            console.status(
                "\(grouped(done)) of \(grouped(evaluator.targets)) tokens, \(duration(left)) left", worthKeeping: false)
        }
        console.clearStatus()
        if json {
            return try printResult(
                try jsonText(Report(data: corpus.name(of: split), split: split.rawValue, evaluation: evaluation)))
        }
        try printResult(
            String(
                format: "loss %.4f nats, %.4f bits per character, perplexity %.3f, accuracy %.2f %%", evaluation.loss,
                evaluation.bitsPerCharacter, evaluation.perplexity, 100 * evaluation.accuracy))
        try printResult(
            "\(grouped(evaluation.tokens)) tokens of \(corpus.name(of: split)) (\(split.rawValue)"
                + (difficulty.map { ", difficulty \($0.range.text)" } ?? "") + "), each from the memory of up to "
                + "\(window) before it, "
                + (reset.map { "memory forgotten every \($0) tokens" } ?? "memory carried")
                + ", in \(evaluator.streams) streams")
    }
}

extension Evaluate {
    /// The figures, and what they were measured on.
    private struct Report: Encodable {
        let data, split: String
        let evaluation: Evaluation

        func encode(to encoder: any Encoder) throws {
            try evaluation.encode(to: encoder)
            var values = encoder.container(keyedBy: Keys.self)
            try values.encode(data, forKey: .data)
            try values.encode(split, forKey: .split)
        }
        enum Keys: CodingKey { case data, split }
    }

    /// What is given, or else the run's own.
    private func corpus(of place: URL, _ console: inout Console) async throws -> any Corpus {
        let run = try RunFolder.run(of: place)?.configuration()
        if let data {
            return try await load(try TextCorpus.absolute(data), field: field ?? run?.field, &console)
        }
        var own = run ?? RunConfiguration()
        own.field = field ?? own.field
        try own.makePathsAbsolute()
        return try await load(own, &console)
    }

    private func stream(of corpus: any Corpus, _ tokenizer: Tokenizer) throws -> TokenStream {
        guard let difficulty else { return try corpus.stream(split, tokenizer) }
        guard let task = corpus as? TaskCorpus else {
            throw ConfigurationError("\(corpus.name) is a text; leave out --difficulty, or give a task as --data")
        }
        return try task.stream(split, tokenizer, difficulty: difficulty.range)
    }
}

/// How difficult a task's sequences are: a number or a range.
struct Difficulty: ExpressibleByArgument {
    let range: ClosedRange<Int>

    init?(argument: String) {
        guard let range = Lessons.difficulty(Substring(argument)) else { return nil }
        self.range = range
    }
}

extension CorpusPart: ExpressibleByArgument {}

/// A value as one JSON object on one line.
func jsonText(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
}
