import ArgumentParser
import FeedbackTraining
import FeedbackTransformer
import Foundation

struct Evaluate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measures how well a model predicts a text.",
        discussion: """
            Every character but the first is predicted once, from the memory of those before it; the memory is carried \
            through the text.

            Examples:
              feedback evaluate runs/demo
              feedback evaluate model --data novel.txt --split all --json
            """)

    enum Split: String, CaseIterable, ExpressibleByArgument { case validation, training, all }

    @Argument(help: "A model folder, or a run's folder: its newest checkpoint.")
    var model: String

    @Option(help: "A data set's name, or a text file; by default a run's own, else tiny_shakespeare.")
    var data: String?

    @Option(help: "Which part: the last tenth (validation), the rest (training), or all.")
    var split = Split.validation

    @Option(parsing: .unconditional, help: "Memories a step sees; as many as in training by default.")
    var memoryWindow: Int?

    @Option(parsing: .unconditional, help: "Worker threads.")
    var threads = ProcessInfo.processInfo.activeProcessorCount

    @Flag(help: "Print one JSON object.")
    var json = false

    func run() async throws {
        var console = Console()
        let folder = try openModel(model)
        let own = try? RunFolder(opening: URL(filePath: model)).configuration().data
        let corpus = try await load(data ?? own ?? KnownCorpus.tinyShakespeare.name, &console)
        let (training, validation) = try corpus.split(folder.tokenizer)
        let tokens =
            switch split {
            case .validation: validation
            case .training: training
            case .all: training + validation
            }
        let window = memoryWindow ?? folder.memoryWindow
        guard window >= 1 && window <= folder.model.configuration.window else {
            throw ConfigurationError(
                "memory-window is \(window); this model allows 1 to \(folder.model.configuration.window)")
        }
        guard (1...1024).contains(threads) else {
            throw ConfigurationError("threads is \(threads); it must be a whole number from 1 to 1024")
        }
        let evaluator = try Evaluator(folder.model, tokens: tokens, memoryWindow: window, threads: threads)
        let evaluation = try evaluator.run { done in
            console.status("\(grouped(done)) of \(grouped(tokens.count - 1)) characters", worthKeeping: false)
        }
        console.clearStatus()
        if json { return print(try jsonText(evaluation)) }
        print(
            String(
                format: "loss %.4f nats, %.4f bits per character, perplexity %.3f, accuracy %.2f %%", evaluation.loss,
                evaluation.bitsPerCharacter, evaluation.perplexity, 100 * evaluation.accuracy))
        print(
            "\(grouped(evaluation.tokens)) characters of \(corpus.name) (\(split.rawValue)), each from the memory of up to "
                + "\(window) before it, memory carried")
    }
}

/// A value as one JSON object on one line.
func jsonText(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
}
