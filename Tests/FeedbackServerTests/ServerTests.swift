import FeedbackTransformer
import Foundation
import Testing

@testable import FeedbackServer

@Suite struct ServerTests {
    /// With `SlowBackend` it takes hours: it ends when its client goes.
    private static let long: JSON = ["model": "tiny", "prompt": "a", "max_tokens": 1_000_000, "temperature": 0]

    /// Requests of all kinds at once, more than fit into the batch: each gives the text that it gives alone.
    @Test func textsDoNotDependOnTheLoad() async throws {
        try await serve(options: settings { ($0.batch, $0.queue) = (5, 100) }) { client in
            let requests = (0..<48).map { number in
                (prompt: String("the cat sat".prefix(1 + number % 11)), length: 1 + number * 7 % 40, seed: number)
            }
            let texts = try await withThrowingTaskGroup(of: (Int, String?).self) { group in
                for (index, request) in requests.enumerated() {
                    group.addTask {
                        let answer = try await client.complete([
                            "model": "tiny", "prompt": .string(request.prompt), "max_tokens": .integer(request.length),
                            "temperature": index % 3 == 0 ? 0 : 1, "seed": .integer(request.seed),
                            "stream": .bool(index % 2 == 0),
                        ])
                        let pieces = answer.chunks.flatMap { $0["choices"]!.elements! }.compactMap { $0["text"]?.text }
                        return (index, index % 2 == 0 ? pieces.joined() : answer.json.completion)
                    }
                }
                return try await group.reduce(into: [Int: String?]()) { $0[$1.0] = $1.1 }
            }
            for (index, request) in requests.enumerated() {
                let expected = try alone(
                    tiny, request.prompt, request.length, temperature: index % 3 == 0 ? 0 : 1,
                    seed: UInt64(request.seed))
                #expect(texts[index] == expected, "request \(index)")
            }
            #expect(try await client.wait("feedback_running_sequences") { $0 == 0 })
        }
    }

    // MARK: Limits

    @Test func fullQueueRefuses() async throws {
        let options = settings { options in
            (options.batch, options.queue, options.maxTokens) = (2, 3, 1_000_000)
            options.backend = SlowBackend()
        }
        try await serve(options: options) { client in
            let sockets = try await blocking {
                try (0..<5).map { _ in
                    let socket = try Socket(port: client.port)
                    try socket.write(Client.bytes("POST", "/v1/completions", [:], Self.long.bytes))
                    return socket
                }
            }
            #expect(try await client.wait(running: 2, waiting: 3))
            let refused = try await client.complete(["model": "tiny", "prompt": "a"])
            #expect(refused.status == 503 && refused.headers["retry-after"] == "1")
            #expect(refused.error?["code"] == "queue_full")
            #expect(try await client.complete(["model": "tiny", "prompt": "a", "n": 6]).error?["param"] == "n")
            // Those that wait let go of their places too.
            withExtendedLifetime(sockets) {}
        }
    }

    @Test func refusesWhatIsTooLong() async throws {
        try await serve(options: settings { $0.maxTokens = 10 }) { client in
            let prompt = try await client.complete(["model": "tiny", "prompt": "abcdefghijk"])
            #expect(prompt.status == 400 && prompt.error?["param"] == "prompt")
            let length = try await client.complete(["model": "tiny", "prompt": "a", "max_tokens": 11])
            #expect(length.status == 400 && length.error?["param"] == "max_tokens")
            let large = [UInt8](repeating: 0x20, count: (1 << 20) + 1)
            #expect(try await client.send(Client.bytes("POST", "/v1/completions", [:], large)).status == 413)
            var chunked = Client.bytes(
                "POST", "/v1/completions", ["Transfer-Encoding": "chunked", "Content-Length": ""])
            chunked = Array(String(decoding: chunked, as: UTF8.self).replacing("Content-Length: \r\n", with: "").utf8)
            chunked += Array("100001\r\n".utf8) + large + Array("\r\n0\r\n\r\n".utf8)
            #expect(try await client.send(chunked).status == 413)
        }
    }

    @Test func errorsAreInOpenAIsShape() async throws {
        try await serve { client in
            let cases: [(Answer, Int, JSON)] = [
                (try await client.complete(["model": "other", "prompt": "a"]), 404, "model"),
                (try await client.complete(["model": "tiny", "prompt": "aé"]), 400, "prompt"),
                (try await client.complete(["model": "tiny", "prompt": ""]), 400, "prompt"),
                (try await client.complete(["model": "tiny", "prompt": [27]]), 400, "prompt"),
                (try await client.complete(["model": "tiny", "prompt": [-1]]), 400, "prompt"),
                (try await client.complete(["model": "tiny", "prompt": [["a"]]]), 400, "prompt"),
                (try await client.send(Client.bytes("POST", "/v1/completions", [:], [0x7b])), 400, nil),
                (try await client.get("/v1/models/other"), 404, "model"), (try await client.get("/nothing"), 404, nil),
                (try await client.get("/v1/completions"), 405, nil),
                (try await client.post("/v1/models", [:]), 405, nil),
                (try await client.get("/"), 404, nil), (try await client.get("/v1"), 404, nil),
            ]
            for (answer, status, parameter) in cases {
                #expect(answer.status == status && answer.error?["param"] == parameter, "\(answer.text)")
                #expect(
                    answer.error?["message"]?.text?.isEmpty == false && answer.error?["type"] == "invalid_request_error"
                )
            }
            #expect(try await client.get("/v1/completions").headers["allow"] == "POST")
            let head = try await client.send(Client.bytes("HEAD", "/health"))
            #expect(head.status == 200 && head.body.isEmpty && head.headers["content-length"] == "15")
        }
    }

    @Test func keyIsNeededWhereThereIsOne() async throws {
        try await serve(options: settings { $0.apiKey = "secret" }) { client in
            for key in [nil, "", "Bearer", "Bearer ", "Bearer secre", "Bearer secretx", "secret", "Basic secret"] {
                let headers = key.map { ["Authorization": $0] } ?? [:]
                let answer = try await client.get("/v1/models", headers)
                #expect(answer.status == 401 && answer.error?["code"] == "invalid_api_key", "\(key ?? "none")")
            }
            for key in ["Bearer secret", "bearer secret"] {
                #expect(try await client.get("/v1/models", ["Authorization": key]).status == 200)
            }
            #expect(try await client.get("/health").status == 200)
        }
    }

    // MARK: Clients that go

    /// Work ends within a token once a client has gone, whether it streams, waits for the whole, or is still in the queue.
    @Test(arguments: [true, false]) func clientsThatGoAreForgotten(stream: Bool) async throws {
        let options = settings { options in
            (options.batch, options.maxTokens) = (3, 1_000_000)
            options.backend = SlowBackend()
        }
        try await serve(options: options) { client in
            let members: [JSON.Member] = [.init(name: "stream", value: .bool(stream))]
            guard case .object(let long) = Self.long else { fatalError() }
            let request = Client.bytes("POST", "/v1/completions", [:], JSON.object(long + members).bytes)
            var sockets = try await blocking {
                let sockets = try (0..<6).map { _ in try Socket(port: client.port) }
                for socket in sockets { try socket.write(request) }
                if stream { _ = try sockets[0].receiveSome() }
                return sockets
            }
            #expect(try await client.wait(running: 3, waiting: 3))
            sockets = []
            #expect(try await client.wait(running: 0, waiting: 0))
            let generated = try await client.metric("feedback_generated_tokens_total")
            #expect(generated < 3_000_000 && sockets.isEmpty)
            #expect(try await client.complete(["model": "tiny", "prompt": "a"]).status == 200)
            // Nothing more was generated for those that have gone.
            #expect(try await client.wait("feedback_generated_tokens_total") { $0 >= generated + 16 })
            #expect(try await client.metric("feedback_generated_tokens_total") == generated + 16)
        }
    }

    /// Who does not read has a long answer waiting; the others are served.
    @Test func slowReadersStallNobody() async throws {
        try await serve(options: settings { $0.maxTokens = 100_000 }) { client in
            let slow: JSON = ["model": "tiny", "prompt": "a", "max_tokens": 30_000, "stream": true]
            let socket = try await blocking {
                let socket = try Socket(port: client.port)
                try socket.write(Client.bytes("POST", "/v1/completions", [:], slow.bytes))
                return socket
            }
            for _ in 0..<5 {
                let answer = try await client.complete(["model": "tiny", "prompt": "a", "max_tokens": 20])
                #expect(answer.status == 200)
            }
            #expect(try await client.wait("feedback_running_sequences") { $0 == 0 })
            let all = try await blocking { try Answer(socket.receive()) }
            #expect(all.chunks.count == 30_001 && all.events.last == "[DONE]")
        }
    }

    // MARK: Stopping

    @Test func stoppingLetsRequestsFinish() async throws {
        let text = try await serve { client in
            let socket = try await blocking {
                let socket = try Socket(port: client.port)
                let body: JSON = ["model": "tiny", "prompt": "a", "max_tokens": 2000, "temperature": 0]
                try socket.write(Client.bytes("POST", "/v1/completions", [:], body.bytes))
                return socket
            }
            #expect(try await client.wait("feedback_generated_tokens_total") { $0 > 0 })
            // `serve` stops the server when this returns.
            return Task { try await blocking { try Answer(socket.receive()) } }
        }
        let answer = try await text.value
        #expect(answer.status == 200)
        let expected = try alone(tiny, "a", 2000)
        #expect(answer.json.completion == expected)
    }

    @Test func addressInUse() async throws {
        try await serve { client in
            var options = ModelServer.Options()
            options.port = client.port
            let second = try ModelServer(models: [:], options: options)
            let error = await #expect(throws: ServerError.self) { try await second.run() }
            #expect(error?.description.contains("choose another --port") == true)
        }
    }
}
