import ArgumentParser
import FeedbackDevice
import FeedbackEngine
import FeedbackTransformer
import Foundation

struct Generate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Continues a text, token by token, as it comes.",
        discussion: """
            Prints what follows the prompt.

            Examples:
              feedback generate runs/demo --prompt "ROMEO:" --max-tokens 500
              feedback generate model --prompt "To be" --temperature 0 --stop "\\n\\n"
              feedback generate model --prompt-file beginning.txt > whole.txt
            """)

    @Argument(help: "A model folder; or a run, its folder, id or name: its best checkpoint.", completion: .runs)
    var model: String

    @Option(parsing: .unconditional, help: "What to continue; \\n is a new line.")
    var prompt: String?

    @Option(
        help: ArgumentHelp("A text file to continue; - for standard input.", valueName: "file"), completion: .file())
    var promptFile: String?

    @Option(parsing: .unconditional, help: "Tokens to produce at most.")
    var maxTokens = 500

    @Option(parsing: .unconditional, help: "0 takes the likeliest, 1 the model's own probabilities.")
    var temperature = 0.8

    @Option(parsing: .unconditional, help: "Choose among so many likeliest.")
    var topK: Int?

    @Option(parsing: .unconditional, help: "Choose among the likeliest that together have this probability.")
    var topP: Double?

    @Option(parsing: .unconditional, help: "Leave out what is less likely than so many times the likeliest.")
    var minP: Double?

    @Option(parsing: .unconditional, help: "The same seed gives the same text; another one each time by default.")
    var seed: UInt64?

    @Option(parsing: .unconditionalSingleValue, help: "End before this text; \\n is a new line. May be repeated.")
    var stop: [String] = []

    @Option(parsing: .unconditional, help: "Memories a step sees; as many as in training by default.")
    var memoryWindow: Int?

    @Option(
        help: "Numbers to compute in; narrower is faster, at a small cost in quality.")
    var precision = DecodingPrecision.float32

    @Option(help: "What computes: \(DeviceName.choices).")
    var device = DeviceName.cpu

    @Option(parsing: .unconditional, help: "Threads that share the work; the text is the same for any number.")
    var threads = 1

    @Flag(help: "Print the prompt first.")
    var echo = false

    @OptionGroup var history: HistoryOptions

    func run() throws {
        let sampler = try Sampler(
            temperature: temperature, topK: topK, topP: topP, minP: minP,
            seed: seed ?? UInt64.random(in: .min ... .max))
        try checkThreads(threads)
        var console = Console()
        console.warnIfSlow(precision)
        let (folder, note) = try openModel(try history.folder(of: model))
        let prompt = try promptText()
        var generator = try TextGenerator(
            folder, on: device.backend(threads: threads, decodingPrecision: precision), prompt: prompt,
            maxTokens: maxTokens, sampler: sampler, stops: stop.map(unescaped), memoryWindow: memoryWindow)
        if let note { console.print(note) }
        // A terminal is not to be steered by what a model writes; a file gets it as it is.
        let show: (String) -> String = isatty(STDOUT_FILENO) == 1 ? { visible($0) } : { $0 }
        if echo { try printResult(show(prompt), terminator: "") }
        while let piece = try generator.next() {
            try printResult(show(piece), terminator: "")
        }
        try printResult("")
    }

    func validate() throws {
        if prompt != nil, promptFile != nil { throw ValidationError("give --prompt or --prompt-file, not both") }
        if prompt == nil, promptFile == nil {
            throw ValidationError("give what to continue, as --prompt or as --prompt-file (- for standard input)")
        }
    }

    private func promptText() throws -> String {
        guard let promptFile else { return unescaped(prompt!) }
        var bytes = promptFile == "-" ? Data() : try readRegularFile(URL(filePath: promptFile))
        while promptFile == "-", case let more = try readStandardInput(1 << 20), !more.isEmpty { bytes += more }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw ConfigurationError("the prompt is not UTF-8 text")
        }
        return text
    }
}

/// \n, \t and \\ as typed in a shell.
func unescaped(_ text: String) -> String {
    text.replacing(/\\([nt\\])/) { match in ["n": "\n", "t": "\t", "\\": "\\"][String(match.1)]! }
}
