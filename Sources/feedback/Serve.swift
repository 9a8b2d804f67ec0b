import ArgumentParser
import FeedbackDevice
import FeedbackEngine
import FeedbackServer
import FeedbackTransformer
import Foundation

struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serves models through OpenAI's completions interface, and the history of runs as a page.",
        discussion: """
            Clients use http://HOST:PORT/v1 as the base URL, and a model's folder name as its name. /health and /metrics \
            (Prometheus) tell how the server is. The first Ctrl-C lets requests finish; the second stops at once.

            The page is for whoever can reach the address: a key does not protect it.

            Examples:
              feedback serve --dashboard
              feedback serve runs/demo --port 8000
              curl localhost:8000/v1/completions -d '{"model": "demo", "prompt": "To"}'
            """)

    @Argument(
        help: "Model folders; or runs, their folders, ids or names: their best checkpoints.", completion: .runs)
    var models: [String] = []

    @Flag(help: "Show the history of runs as a page.")
    var dashboard = false

    @Option(help: "The address to listen on; 0.0.0.0 for all of this machine's.")
    var host = "127.0.0.1"

    @Option(parsing: .unconditional, help: "The port to listen on; 0 takes a free one.")
    var port = 8080

    @Option(parsing: .unconditional, help: "Continuations that a model generates at a time.")
    var batch = 64

    @Option(parsing: .unconditional, help: "Continuations that wait for a place; more are refused.")
    var queue = 256

    @Option(parsing: .unconditional, help: "Tokens that a prompt, and a continuation, may have at most.")
    var maxTokens = 4096

    @Option(help: "What clients must present; by default FEEDBACK_API_KEY, or nothing.")
    var apiKey: String?

    @Option(
        parsing: .unconditionalSingleValue,
        help: "Another name that this machine goes by, where --host is its own alone. May be repeated.")
    var allowHost: [String] = []

    @Option(
        parsing: .unconditionalSingleValue,
        help: "Pages of this origin, such as https://example.org, may use the server; * for all. May be repeated.")
    var allowOrigin: [String] = []

    @Option(parsing: .unconditional, help: "Seconds that requests get to finish when the server is to stop.")
    var drainTime = 30.0

    @Option(help: "Numbers to compute in; narrower is faster, at a small cost in quality.")
    var precision = DecodingPrecision.float32

    @Option(help: "What computes: \(DeviceName.choices).")
    var device = DeviceName.cpu

    @Option(parsing: .unconditional, help: "Threads that share a model's work; the text is the same for any number.")
    var threads = 1

    @OptionGroup var history: HistoryOptions

    func validate() throws {
        if models.isEmpty && !dashboard {
            throw ValidationError("name a model to serve, or show the runs with --dashboard")
        }
        func check(_ name: String, _ value: Int, _ range: ClosedRange<Int>) throws {
            guard range.contains(value) else {
                throw ValidationError(
                    "\(name) is \(value); it must be between \(range.lowerBound) and \(range.upperBound)")
            }
        }
        try check("port", port, 0...65535)
        try check("batch", batch, 1...4096)
        try check("queue", queue, 0...1_000_000)
        try check("max-tokens", maxTokens, 1...1_000_000)
        if apiKey?.isEmpty == true {
            throw ValidationError("api-key is empty, and would let everybody in; leave it out if that is meant")
        }
        guard (0...86400).contains(drainTime) else {
            throw ValidationError("drain-time is \(drainTime); it must be between 0 and 86400 seconds")
        }
    }

    func run() async throws {
        try checkThreads(threads)
        var console = Console()
        console.warnIfSlow(precision)
        var options = ModelServer.Options()
        (options.host, options.port) = (host, port)
        (options.batch, options.queue, options.maxTokens) = (batch, queue, maxTokens)
        options.backend = try device.backend(threads: threads, decodingPrecision: precision)
        (options.hosts, options.origins) = (allowHost, allowOrigin)
        options.drainTime = .seconds(drainTime)
        let key = apiKey ?? ProcessInfo.processInfo.environment["FEEDBACK_API_KEY"] ?? ""
        options.apiKey = key.isEmpty ? nil : key
        let server = try ModelServer(
            models: try open(&console), history: dashboard ? try history.store() : nil, options: options)
        let interruption = Interruption {
            var console = Console()
            console.print("stopping; requests under way may finish")
            server.stop()
        }
        try await server.run { [models] address in
            var console = Console()
            console.print("listening on \(address)")
            if !models.isEmpty { console.print("completions: \(address)/v1") }
        }
        if let status = interruption.exitStatus { throw ExitCode(status) }
    }

    /// The models by their names.
    private func open(_ console: inout Console) throws -> [String: ModelFolder] {
        var folders: [String: ModelFolder] = [:]
        for asked in models {
            let folder = try history.folder(of: asked)
            let name = name(folder.standardizedFileURL)
            guard folders[name] == nil else {
                throw ConfigurationError("two models are named \(name); serve folders of different names")
            }
            let (model, note) = try openModel(folder)
            if let note { console.print(note) }
            folders[name] = model
        }
        return folders
    }

    /// A run's name, also for one of its checkpoints; of another folder, its own.
    private func name(_ url: URL) -> String {
        let parent = url.deletingLastPathComponent()
        return parent.lastPathComponent == "checkpoints"
            ? parent.deletingLastPathComponent().lastPathComponent : url.lastPathComponent
    }
}
