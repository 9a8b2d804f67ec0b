import FeedbackTransformer
import Foundation
import TestedCommand
import Testing

@testable import FeedbackServer

/// The command itself.
@Suite struct ServeCommandTests {
    private func process(_ arguments: [String]) -> (process: Process, errors: Pipe) {
        let (process, errors) = (Process(), Pipe())
        process.executableURL = command
        process.arguments = ["serve"] + arguments
        (process.standardError, process.standardOutput) = (errors, FileHandle.nullDevice)
        return (process, errors)
    }

    private static let badUses: [([String], Int32, String)] = [
        ([], 64, "--dashboard"), (["missing"], 1, "no folder missing"),
        (["x", "--port", "70000"], 64, "port is 70000"),
        (["x", "--batch", "0"], 64, "batch is 0"), (["a/x", "b/x"], 1, "a/x"),
        (["x", "--drain-time", "nan"], 64, "drain-time"),
    ]

    @Test(arguments: badUses) func badUseIsExplained(arguments: [String], status: Int32, words: String) async throws {
        let (status_, text) = try await blocking {
            let (process, errors) = process(arguments)
            try process.run()
            let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            process.waitUntilExit()
            return (process.terminationStatus, text)
        }
        #expect(status_ == status && text.contains(words), "\(text)")
    }

    /// Serves a model in a process of its own while `body` takes; what it returns, and how the process has ended.
    private func serving<Value: Sendable>(
        _ options: [String] = [], _ body: @escaping @Sendable (Process, _ port: Int) throws -> Value
    ) async throws -> (Value, Int32) {
        let folder = FileManager.default.temporaryDirectory.appending(path: "feedback-serve-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try tiny.save(to: folder.appending(path: "tiny"))
        return try await blocking {
            let (process, errors) = process([folder.appending(path: "tiny").path, "--port", "0"] + options)
            try process.run()
            defer { if process.isRunning { process.terminate() } }
            var said = ""
            while !said.contains("/v1") {
                let more = errors.fileHandleForReading.availableData
                if more.isEmpty { throw SocketError(what: said) }
                said += String(decoding: more, as: UTF8.self)
            }
            let port = said.firstMatch(of: /listening on http:\/\/127\.0\.0\.1:(\d+)\n/).flatMap { Int($0.1) } ?? 0
            let value = try body(process, port)
            process.waitUntilExit()
            return (value, process.terminationReason == .exit ? process.terminationStatus : -1)
        }
    }

    private static func request(_ port: Int, maxTokens: Int, stream: Bool) throws -> Socket {
        let socket = try Socket(port: port)
        let body: JSON = [
            "model": "tiny", "prompt": "the", "max_tokens": .integer(maxTokens), "stream": .bool(stream),
        ]
        try socket.write(Client.bytes("POST", "/v1/completions", [:], body.bytes))
        return socket
    }

    /// A signal while a request is under way: it finishes, and then the server ends with the status of the signal.
    @Test(arguments: [(SIGTERM, Int32(143)), (SIGINT, Int32(130))])
    func signalsDrain(number: Int32, status: Int32) async throws {
        let (text, ended) = try await serving(["--drain-time", "600"]) { process, port in
            let socket = try Self.request(port, maxTokens: 4000, stream: true)
            let beginning = try socket.receiveSome()
            kill(process.processIdentifier, number)
            return try Answer(beginning + socket.receive()).text
        }
        #expect(text.hasSuffix("data: [DONE]\n\n") && text.contains(#""finish_reason":"length""#))
        #expect(ended == status)
    }

    /// Waits until so many continuations are under way: a server that stops resets what has arrived but it has not read.
    private static func waitForRunning(_ count: Int, _ port: Int) throws {
        var running = 0
        while running != count {
            let socket = try Socket(port: port)
            try socket.write(Client.bytes("GET", "/metrics"))
            running = Client.metric("feedback_running_sequences", in: try Answer(socket.receive()).text)
        }
    }

    /// What takes longer than the drain time is cut off, and told.
    @Test func drainingHasADeadline() async throws {
        let options = ["--drain-time", "0.2", "--max-tokens", "1000000"]
        let ((whole, stream), ended) = try await serving(options) { process, port in
            let whole = try Self.request(port, maxTokens: 1_000_000, stream: false)
            let stream = try Self.request(port, maxTokens: 1_000_000, stream: true)
            let beginning = try stream.receiveSome()
            try Self.waitForRunning(2, port)
            kill(process.processIdentifier, SIGTERM)
            return (try Answer(whole.receive()), try Answer(beginning + stream.receive()))
        }
        #expect(ended == 143 && whole.status == 503 && whole.headers["retry-after"] != nil)
        #expect(stream.events.last?.contains("shutting down") == true && !stream.events.contains("[DONE]"))
        #expect(!stream.text.contains(#""finish_reason":""#))
    }
}
