import FeedbackEngine
import FeedbackTransformer
import Foundation
import Testing

@testable import FeedbackServer

@Suite struct CompletionTests {
    @Test func continuesAsTheModelDoesAlone() async throws {
        try await serve { client in
            for (seed, temperature) in [(1, 1.0), (2, 0.7), (3, 0)] {
                let answer = try await client.complete([
                    "model": "tiny", "prompt": "the cat", "max_tokens": 40, "seed": .integer(seed),
                    "temperature": .number(temperature),
                ])
                let expected = try alone(tiny, "the cat", 40, temperature: temperature, seed: UInt64(seed))
                #expect(answer.status == 200 && answer.json.completion == expected)
            }
        }
    }

    @Test func answersInOpenAIsShape() async throws {
        try await serve { client in
            let answer = try await client.complete(["model": "tiny", "prompt": ["ab", "abc"], "n": 2, "max_tokens": 3])
            #expect(answer.headers["content-type"] == "application/json")
            #expect(answer.json["object"] == "text_completion" && answer.json["model"] == "tiny")
            #expect(answer.json["id"]?.text?.hasPrefix("cmpl-") == true)
            let choices = try #require(answer.json["choices"]?.elements)
            #expect(choices.map { $0["index"] } == [0, 1, 2, 3])
            #expect(choices.allSatisfy { $0["finish_reason"] == "length" && $0["logprobs"] == .null })
            // A prompt counts once, whatever n is.
            #expect(
                answer.json["usage"] == ["prompt_tokens": 5, "completion_tokens": 12, "total_tokens": 17])
            let models = try await client.get("/v1/models").json
            #expect(models["object"] == "list" && models["data"]?.elements?.first?["id"] == "tiny")
            #expect(try await client.get("/v1/models/tiny").json["object"] == "model")
            #expect(try await client.get("/health").json == ["status": "ok"])
        }
    }

    /// Choices differ by their seed, and each is what it would be alone.
    @Test func choicesHaveSeedsOfTheirOwn() async throws {
        try await serve { client in
            let answer = try await client.complete([
                "model": "tiny", "prompt": ["a", "b"], "n": 3, "seed": 7, "max_tokens": 20,
            ])
            let texts = try #require(answer.json["choices"]?.elements).map { $0["text"]?.text ?? "" }
            let expected = try ["a", "b"].flatMap { prompt in
                try (7..<10).map { try alone(tiny, prompt, 20, temperature: 1, seed: $0) }
            }
            #expect(texts == expected && Set(texts).count > 3)
        }
    }

    @Test func tokenIdsAndTextAreTheSame() async throws {
        try await serve { client in
            let text = try await client.complete(["model": "tiny", "prompt": "cab", "seed": 1])
            let ids = try tiny.tokenizer.encode("cab").map { JSON.integer(Int($0)) }
            let tokens = try await client.complete(["model": "tiny", "prompt": .array(ids), "seed": 1])
            #expect(text.json.completion == tokens.json.completion)
            let list = try await client.complete(["model": "tiny", "prompt": [.array(ids)], "seed": 1])
            #expect(list.json.completion == tokens.json.completion)
        }
    }

    // MARK: Stops and lengths

    @Test func stopsCutAcrossTokens() async throws {
        try await serve(["circle": lettersInCircle("abcdefgh")]) { client in
            func check(_ stop: JSON, maxTokens: Int = 30, _ text: JSON, _ reason: JSON, tokens: JSON) async throws {
                let body: JSON = [
                    "model": "circle", "prompt": "a", "max_tokens": .integer(maxTokens), "temperature": 0, "stop": stop,
                ]
                let whole = try await client.complete(body)
                try await expectStreamedIsTheSame(client, body, whole)
                let choice = whole.json["choices"]!.elements![0]
                #expect(choice["text"] == text && choice["finish_reason"] == reason)
                #expect(whole.json["usage"]?["completion_tokens"] == tokens)
            }
            try await check("de", "bc", "stop", tokens: 4)
            try await check(["zz", "hab", "habc"], "bcdefg", "stop", tokens: 9)
            try await check("b", "", "stop", tokens: 1)
            // The beginning of a stop that never comes is held back, and then given.
            try await check("defx", maxTokens: 5, "bcdef", "length", tokens: 5)
            try await check(nil, maxTokens: 0, "", "length", tokens: 0)
        }
    }

    @Test func charactersAreNeverSplit() async throws {
        let text = "a€😀éz"
        try await serve(["bytes": bytesInCircle(text)]) { client in
            for length in 0..<30 {
                let body: JSON = [
                    "model": "bytes", "prompt": "z", "max_tokens": .integer(length), "temperature": 0, "logprobs": 1,
                ]
                let whole = try await client.complete(body)
                let bytes = (0..<length).map { Array(text.utf8)[$0 % text.utf8.count] }
                #expect(whole.json.completion == String(decoding: bytes, as: UTF8.self))
                try await expectStreamedIsTheSame(client, body, whole)
            }
            let stopped: JSON = ["model": "bytes", "prompt": "z", "max_tokens": 30, "temperature": 0, "stop": "😀"]
            #expect(try await client.complete(stopped).json.completion == "a€")
        }
    }

    @Test func echoGivesThePromptToo() async throws {
        try await serve(["circle": lettersInCircle("abcdefgh")]) { client in
            let body: JSON = [
                "model": "circle", "prompt": "gh", "max_tokens": 3, "temperature": 0, "echo": true, "n": 2,
            ]
            let whole = try await client.complete(body)
            #expect(whole.json.completion == "ghabc")
            try await expectStreamedIsTheSame(client, body, whole)
            let prompt: JSON = ["model": "circle", "prompt": "gh", "max_tokens": 0, "echo": true]
            #expect(try await client.complete(prompt).json.completion == "gh")
        }
    }

    // MARK: Log-probabilities

    @Test(arguments: [false, true]) func logprobsAgreeWithTheText(echo: Bool) async throws {
        let words = try Tokenizer(.words, text: "the cat sat on a mat , and ran")
        let configuration = ModelConfiguration(
            layers: 1, dModel: 8, heads: 1, dFF: 8, vocabulary: words.vocabularySize, positions: 32)
        let folder = ModelFolder(model: try FeedbackModel(configuration, seed: 2), tokenizer: words)
        let models = ["tiny": tiny, "words": folder, "bytes": bytesInCircle("a€😀éz")]
        try await serve(models) { client in
            for (model, prompt) in [("tiny", "the cat"), ("words", "the cat sat"), ("bytes", "€a")] {
                for count in [0, 1, 5] {
                    let body: JSON = [
                        "model": .string(model), "prompt": .string(prompt), "max_tokens": 12, "seed": 5,
                        "echo": .bool(echo),
                        "logprobs": .integer(count), "stop": ["t", "é"],
                    ]
                    let whole = try await client.complete(body)
                    try await expectStreamedIsTheSame(client, body, whole)
                    let logprobs = whole.json["choices"]!.elements![0]["logprobs"]!
                    let tokens = logprobs["tokens"]!.elements!.compactMap(\.text)
                    let text = Array(whole.json.completion!.unicodeScalars)
                    let offsets = logprobs["text_offset"]!.elements!
                    for (token, offset) in zip(tokens, offsets) where !token.hasPrefix("bytes:") {
                        guard case .integer(let start) = offset else { fatalError("\(offset)") }
                        let there = text[start...].prefix(token.unicodeScalars.count)
                        // A stop may cut a word; what is left of it is there.
                        #expect(
                            token.unicodeScalars.starts(with: there) && !there.isEmpty, "\(model) \(token) \(start)")
                    }
                    #expect(count == 0 ? logprobs["top_logprobs"] == .null : true)
                    for (index, top) in (logprobs["top_logprobs"]?.elements ?? []).enumerated() where top != .null {
                        guard case .object(let members) = top else { fatalError("\(top)") }
                        #expect(count...count + 1 ~= members.count && top[tokens[index]] != nil)
                        #expect(top[tokens[index]] == logprobs["token_logprobs"]!.elements![index])
                    }
                    if model == "tiny" { #expect(tokens.joined() == whole.json.completion) }
                    #expect((logprobs["token_logprobs"]!.elements!.first == .null) == echo)
                }
            }
        }
    }

    /// Every way of asking gives the same numbers: those of the logits, normalized.
    @Test func logprobsAreTheModels() async throws {
        try await serve { client in
            let text = "the cat sat"
            let answer = try await client.complete([
                "model": "tiny", "prompt": .string(text), "max_tokens": 0, "echo": true, "logprobs": 5,
            ])
            let tokens = try tiny.tokenizer.encode(text)
            let decoder = CPUBackend().decoding(tiny.model, memoryWindow: tiny.memoryWindow)
            let sequence = decoder.makeSequence()
            let logprobs = answer.json["choices"]!.elements![0]["logprobs"]!
            for (index, token) in tokens.dropLast().enumerated() {
                let logits = decoder.step([sequence], tokens: [token])[0].map(Double.init)
                let next = tokens[index + 1]
                let expected = logits[Int(next)] - logSumExp(logits)
                guard case .number(let told) = logprobs["token_logprobs"]!.elements![index + 1] else { fatalError() }
                #expect(abs(told - expected) < 2e-6)
            }
        }
    }

    // MARK: Several requests on one connection

    @Test func connectionsStayOpen() async throws {
        try await serve { client in
            let port = client.port
            let answers = try await blocking {
                let socket = try Socket(port: port)
                let body: JSON = ["model": "tiny", "prompt": "a", "max_tokens": 3, "seed": 1]
                return try (0..<3).map { _ in
                    try socket.write(
                        Client.bytes("POST", "/v1/completions", ["Connection": "keep-alive"], body.bytes))
                    return try Answer(socket.receive { $0.suffix(2) == Array("}}".utf8) })
                }
            }
            #expect(answers.map(\.status) == [200, 200, 200])
            #expect(Set(answers.map { $0.json.completion }).count == 1)
        }
    }
}

private func logSumExp(_ values: [Double]) -> Double { log(values.reduce(0) { $0 + exp($1) }) }

/// The pieces of a stream are the same texts, log-probabilities and reasons as the whole; each choice ends once.
func expectStreamedIsTheSame(_ client: Client, _ body: JSON, _ whole: Answer) async throws {
    guard case .object(let members) = body else { fatalError() }
    let streaming: [JSON.Member] = [
        .init(name: "stream", value: true), .init(name: "stream_options", value: ["include_usage": true]),
    ]
    let stream = try await client.complete(.object(members + streaming))
    #expect(stream.status == 200 && stream.headers["content-type"] == "text/event-stream")
    #expect(stream.events.last == "[DONE]")
    let chunks = stream.chunks
    #expect(chunks.last?["choices"] == [] && chunks.last?["usage"] == whole.json["usage"])
    #expect(chunks.dropLast().allSatisfy { $0["usage"] == .null && $0["id"] == chunks[0]["id"] })
    for choice in whole.json["choices"]!.elements! {
        let own = chunks.flatMap { $0["choices"]!.elements! }.filter { $0["index"] == choice["index"] }
        #expect(own.compactMap { $0["text"]?.text }.joined() == choice["text"]?.text)
        #expect(own.map { $0["finish_reason"]! }.filter { $0 != .null } == [choice["finish_reason"]!])
        #expect(own.last?["finish_reason"] != .null)
        guard let logprobs = choice["logprobs"], logprobs != .null else { continue }
        for list in ["tokens", "token_logprobs", "text_offset", "top_logprobs"] where logprobs[list] != .null {
            let pieces = own.flatMap { $0["logprobs"]?[list]?.elements ?? [] }
            #expect(.array(pieces) == logprobs[list], "\(list)")
        }
    }
}
