import ArgumentParser
import FeedbackEngine
import FeedbackTransformer
import Foundation

struct Generate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Continues a text, token by token, as it comes.",
        discussion: """
            Prints what follows the prompt.

            Examples:
              feedback generate runs/demo --prompt "ROMEO:" --max-tokens 500 --temperature 0.8
              feedback generate model --prompt "To be" --temperature 0 --stop "\\n\\n"
            """)

    @Argument(help: "A model folder, or a run's folder: its newest checkpoint.")
    var model: String

    @Option(parsing: .unconditional, help: "What to continue.")
    var prompt: String

    @Option(parsing: .unconditional, help: "Tokens to produce at most.")
    var maxTokens = 500

    @Option(parsing: .unconditional, help: "0 takes the likeliest, 1 the model's own probabilities.")
    var temperature = 0.8

    @Option(parsing: .unconditional, help: "Choose among so many likeliest.")
    var topK: Int?

    @Option(parsing: .unconditional, help: "Choose among the likeliest that together have this probability.")
    var topP: Double?

    @Option(parsing: .unconditional, help: "The same seed gives the same text; another one each time by default.")
    var seed: UInt64?

    @Option(parsing: .unconditionalSingleValue, help: "End before this text; \\n is a new line. May be repeated.")
    var stop: [String] = []

    @Option(parsing: .unconditional, help: "Memories a step sees; as many as in training by default.")
    var memoryWindow: Int?

    @Option(
        help: "Numbers to compute in; narrower is faster, at a small cost in quality.")
    var precision = DecodingPrecision.float32

    @Option(parsing: .unconditional, help: "Threads that share the work; the text is the same for any number.")
    var threads = 1

    @Flag(help: "Print the prompt first.")
    var echo = false

    func run() throws {
        let sampler = try Sampler(
            temperature: temperature, topK: topK, topP: topP, seed: seed ?? UInt64.random(in: .min ... .max))
        try checkThreads(threads)
        var console = Console()
        console.warnIfSlow(precision)
        let folder = try openModel(model)
        let prompt = unescaped(prompt)
        var generator = try TextGenerator(
            folder, prompt: prompt, maxTokens: maxTokens, sampler: sampler, stops: stop.map(unescaped),
            memoryWindow: memoryWindow, precision: precision, threads: threads)
        if echo { try printResult(prompt, terminator: "") }
        while let piece = try generator.next() {
            try printResult(piece, terminator: "")
        }
        try printResult("")
    }

    /// \n, \t and \\ as typed in a shell.
    private func unescaped(_ text: String) -> String {
        text.replacing(/\\([nt\\])/) { match in ["n": "\n", "t": "\t", "\\": "\\"][String(match.1)]! }
    }
}
