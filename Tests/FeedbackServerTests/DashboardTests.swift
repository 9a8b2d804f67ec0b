import FeedbackTraining
import FeedbackTransformer
import Foundation
import Testing

@testable import FeedbackRuns
@testable import FeedbackServer

/// A folder with a history, and a trainer that enters itself into it.
private final class History: Sendable {
    let url = FileManager.default.temporaryDirectory.appending(path: "feedback-server-\(UUID().uuidString)")
    let store: RunStore

    init() throws { store = try RunStore(at: url.appending(path: "runs.sqlite")) }
    deinit { try? FileManager.default.removeItem(at: url) }

    /// A small run; `whenSaved` is called at its checkpoints.
    func train(_ name: String, steps: Int = 12, whenSaved: (Int) -> Void = { _ in }) throws -> Int64 {
        let corpus = try TextCorpus(
            name: "small", text: String(repeating: "to be or not to be, that is it. ", count: 40))
        var configuration = RunConfiguration()
        (configuration.layers, configuration.dModel, configuration.heads, configuration.dFF) = (2, 16, 2, 32)
        (configuration.sequenceLength, configuration.batchSize, configuration.threads) = (8, 2, 1)
        (configuration.length, configuration.evalInterval) = (.steps(steps), 5)
        (configuration.sampleInterval, configuration.checkpointInterval) = (6, 4)
        let folder = try RunFolder(creating: url.appending(path: name), configuration: configuration)
        let trainer = try Trainer(configuration, corpus: corpus)
        let recorder = try RunRecorder(store, trainer, folder: folder.url)
        _ = try trainer.run(in: folder) { event in
            recorder.record(event, layerWeights: trainer.model.layerWeights)
            if case .checkpoint(let step, _) = event { whenSaved(step) }
        }
        recorder.end(.finished)
        return recorder.id
    }
}

@Suite struct DashboardTests {
    private func numbers(_ json: JSON?) -> [Int] {
        (json?.elements ?? []).compactMap { if case .integer(let number) = $0 { number } else { nil } }
    }

    private func steps(_ rows: JSON?) -> [Int] { numbers(.array((rows?.elements ?? []).compactMap { $0["step"] })) }

    @Test func tellsOfRuns() async throws {
        let history = try History()
        let (first, second) = (try history.train("first"), try history.train("second", steps: 5))
        try await serve([:], history: history.store) { client in
            let runs = try #require(try await client.get("/api/runs").json["runs"]?.elements)
            #expect(runs.map { $0["name"] } == ["second", "first"])
            let run = runs[1]
            #expect(run["id"] == .integer(Int(first)) && run["state"] == "finished" && run["step"] == 12)
            #expect(run["totalSteps"] == 12 && run["failure"] == .null && run["sparkline"]?.elements?.count == 12)

            let detail = try await client.get("/api/runs/\(first)").json
            #expect(detail["run"]?["configuration"]?["layers"] == "2" && detail["run"]?["host"]?.text != nil)
            #expect(numbers(detail["steps"]?["step"]) == Array(1...12))
            for column in ["time", "loss", "learningRate", "gradientNorm", "tokensPerSecond", "accuracy"] {
                #expect(detail["steps"]?[column]?.elements?.count == 12, "\(column)")
            }
            #expect(steps(detail["validations"]) == [5, 10, 12] && steps(detail["samples"]) == [6, 12])
            // Where it was asked for, and where the validation was the best.
            #expect(Set(steps(detail["checkpoints"])).isSuperset(of: [4, 8, 12]))
            #expect(detail["validations"]?.elements?[0]["layerWeights"]?.elements?.count == 3)

            for path in [
                "/api/runs/99", "/api/runs/first", "/api/runs/\(second)/nothing", "/api/nothing", "/nothing.js",
            ] {
                let answer = try await client.get(path)
                #expect(answer.status == 404 && answer.error?["message"]?.text != nil, "\(path)")
            }
            #expect(try await client.post("/api/runs", [:]).status == 405)
            #expect(try await client.get("/api/events?runs=x").status == 400)
            #expect(try await client.get("/api/events?runs=1&after=x").status == 400)
        }
    }

    /// A run is followed from its middle to its end: nothing is missing, nothing comes twice.
    @Test func eventsTellWhatIsNew() async throws {
        let history = try History()
        try await serve([:], history: history.store) { client in
            // Training waits in its middle until it is being followed.
            let (isFollowed, middle) = (DispatchSemaphore(value: 0), 12)
            let training = Task {
                try await blocking {
                    try history.train("run", steps: 40) { step in if step == middle { isFollowed.wait() } }
                }
            }
            var known = JSON.null
            repeat {
                try await Task.sleep(for: .milliseconds(50))
                known = try await client.get("/api/runs/1").json
            } while steps(known["checkpoints"]).last != middle
            let last = numbers(known["steps"]?["step"]).last ?? -1
            let bytes = try await blocking {
                let socket = try Socket(port: client.port)
                try socket.write(Client.bytes("GET", "/api/events?runs=1&after=\(last)"))
                let first = try socket.receive { String(decoding: $0, as: UTF8.self).contains("event: runs") }
                isFollowed.signal()
                return try first
                    + socket.receive { bytes in
                        String(decoding: bytes.suffix(20_000), as: UTF8.self).contains(#""state":"finished""#)
                    }
            }
            _ = try await training.value
            let answer = try Answer(bytes)
            #expect(answer.status == 200 && answer.headers["content-type"] == "text/event-stream")
            let events = answer.text.components(separatedBy: "\n\n").compactMap {
                event -> (name: String, data: JSON)? in
                let lines = event.components(separatedBy: "\n")
                guard lines.count == 2, lines[0].hasPrefix("event: ") else { return nil }
                return (String(lines[0].dropFirst(7)), (try? JSON(parsing: Array(lines[1].dropFirst(6).utf8))) ?? .null)
            }
            let news = events.filter { $0.name == "news" }.map(\.data)
            #expect(news.allSatisfy { $0["id"] == 1 })
            #expect(last == middle && news.flatMap { numbers($0["steps"]?["step"]) } == Array(middle + 1...40))
            for (kind, all) in [
                ("validations", Array(stride(from: 5, through: 40, by: 5))), ("samples", [6, 12, 18, 24, 30, 36, 40]),
                ("checkpoints", try history.store.metrics(1).checkpoints.map(\.step)),
            ] {
                let told = news.flatMap { steps($0[kind]) }
                #expect(Set(steps(known[kind]) + told) == Set(all), "\(kind)")
                #expect(told == Array(Set(told)).sorted(), "\(kind) come twice")
            }
            #expect(events.contains { $0.name == "runs" })
        }
    }

    @Test func tellsWhatAModelLooksAt() async throws {
        let history = try History()
        let id = try history.train("run")
        try await serve([:], history: history.store) { client in
            let answer = try await client.post("/api/runs/\(id)/attention", ["text": "to be"])
            #expect(answer.status == 200 && answer.json["layers"] == 2 && answer.json["heads"] == 2)
            #expect(answer.json["tokens"] == ["t", "o", " ", "b", "e"])
            let weights = try #require(answer.json["weights"]?.elements)
            #expect(weights.count == 2 && weights.allSatisfy { $0.elements?.count == 2 })
            for (step, row) in weights[1].elements![0].elements!.enumerated() {
                let values = row.elements!.map { value -> Double in
                    if case .number(let number) = value { number } else { .nan }
                }
                #expect(values.count == step && (step == 0 || abs(values.reduce(0, +) - 1) < 1e-4))
            }
            let cases: [(JSON, Int)] = [
                (["text": "to bé"], 400), (["text": ""], 400), ([:], 400), (["text": 1], 400),
                (["text": .string(String(repeating: "to", count: 129))], 400), (["text": "a", "more": 1], 400),
                ([], 400),
            ]
            for (body, status) in cases {
                #expect(try await client.post("/api/runs/\(id)/attention", body).status == status)
            }
            let unknown = try await client.post("/api/runs/\(id)/attention", ["text": "to bé"])
            #expect(unknown.error?["message"]?.text?.contains("position 4") == true)
            #expect(try await client.post("/api/runs/99/attention", ["text": "a"]).status == 404)
            try FileManager.default.removeItem(at: history.url.appending(path: "run/checkpoints"))
            let fresh = try history.train("second", steps: 2)
            try FileManager.default.removeItem(at: history.url.appending(path: "second/checkpoints"))
            #expect(try await client.post("/api/runs/\(fresh)/attention", ["text": "a"]).status == 409)
        }
    }

    /// However many follow however many runs, nothing is read again that has not changed.
    @Test func followersShareWhatIsRead() async throws {
        let history = try History()
        let id = try history.train("run", steps: 3)
        let reader = RunReader(history.store)
        let first = try reader.snapshot()
        #expect(try reader.snapshot().version == first.version && first.states[id]?.step == 3)
        #expect(first.event.starts(with: "event: runs\ndata: {".utf8))
        var all = try (0..<300).map { _ in try RunEvents(reader, "\(id)", "-1") }
        for index in all.indices { #expect(try !all[index].next().isEmpty) }
        try await Task.sleep(for: .milliseconds(450))
        let start = ContinuousClock.now
        for index in all.indices { #expect(try all[index].next().isEmpty) }
        #expect(ContinuousClock.now - start < .milliseconds(200))
        let other = try history.train("other", steps: 2)
        try await Task.sleep(for: .milliseconds(450))
        let news = String(decoding: try all[0].next(), as: UTF8.self)
        #expect(news.contains("event: runs") && !news.contains("event: news") && news.contains("\"id\":\(other)"))
    }

    /// Another site's name, pointed at this machine, shows that site nothing, and its pages may not use the models.
    @Test func onlyThisMachinesNamesAreAnswered() async throws {
        let history = try History()
        let allowing = settings { ($0.hosts, $0.origins) = (["Box.local"], ["https://good.example"]) }
        try await serve(options: allowing) { client in
            #expect(try await client.get("/v1/models", ["Host": "box.local:8080"]).status == 200)
            let asked = ["Origin": "https://good.example"]
            let answer = try await client.get("/v1/models", asked)
            #expect(answer.status == 200)
            #expect(answer.headers["access-control-allow-origin"] == "https://good.example")
            let before = try await client.send(Client.bytes("OPTIONS", "/v1/completions", asked))
            #expect(before.status == 204 && before.headers["access-control-allow-methods"] == "GET, POST")
            #expect(before.headers["access-control-allow-headers"] == "Authorization, Content-Type")
        }
        try await serve { client in
            for origin in ["https://evil.example", "null", "http://localhost.evil.example"] {
                let body: JSON = ["model": "tiny", "prompt": "a"]
                let answer = try await client.post("/v1/completions", body, ["Origin": origin])
                #expect(answer.status == 403 && answer.error?["code"] == "wrong_origin", "\(origin)")
                #expect(answer.headers["access-control-allow-origin"] == nil)
            }
            #expect(try await client.get("/v1/models", ["Host": "evil.example"]).status == 421)
            #expect(try await client.get("/v1/models", ["Origin": "http://localhost"]).status == 200)
            let chat = try await client.post("/v1/chat/completions", ["messages": []])
            #expect(chat.status == 404 && chat.error?["message"]?.text?.contains("/v1/completions") == true)
        }
        try await serve([:], history: history.store) { client in
            for host in ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]", "[::1]:8080", "LOCALHOST"] {
                let status = try await client.get("/api/runs", ["Host": host]).status
                #expect(status == 200, "\(host)")
            }
            for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8080", ""] {
                let status = try await client.get("/api/runs", ["Host": host]).status
                #expect(status == 421, "\(host)")
            }
        }
    }

    @Test func thePageIsInTheBinary() async throws {
        let history = try History()
        try await serve([:], history: history.store) { client in
            for path in DashboardFile.all.keys {
                let answer = try await client.get(path)
                #expect(answer.status == 200 && !answer.body.isEmpty, "\(path)")
                #expect(answer.headers["content-security-policy"]?.hasPrefix("default-src 'self'") == true)
                #expect(answer.headers["x-content-type-options"] == "nosniff")
            }
            #expect(try await client.get("/").headers["content-type"] == "text/html; charset=utf-8")
            #expect(try await client.get("/../Package.swift").status == 404)
        }
    }
}
