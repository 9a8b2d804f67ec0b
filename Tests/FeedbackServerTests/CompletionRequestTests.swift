import FeedbackTransformer
import Testing

@testable import FeedbackServer

@Suite struct CompletionRequestTests {
    private static let valid: [JSON.Member] = [
        .init(name: "model", value: "tiny"), .init(name: "prompt", value: "a"),
    ]

    private func parse(_ changes: (String, JSON)...) throws -> CompletionRequest { try Self.parse(changes) }

    private static func parse(_ changes: [(String, JSON)]) throws -> CompletionRequest {
        let members = valid.filter { member in !changes.contains { $0.0 == member.name } }
        var limits = CompletionLimits()
        limits.tokens = 100
        return try CompletionRequest(
            .object(members + changes.map { .init(name: $0, value: $1) }), limits: limits)
    }

    @Test func defaultsAreOpenAIs() throws {
        let request = try parse()
        #expect(request.maxTokens == 16 && request.temperature == 1 && request.choicesPerPrompt == 1)
        #expect(request.topP == nil && request.topK == nil && request.seed == nil && request.logprobs == nil)
        #expect(request.stops.isEmpty && !request.echo && !request.stream && !request.includeUsage)
        #expect(try parse(("seed", nil), ("stop", nil), ("n", nil), ("max_tokens", nil)) == request)
    }

    @Test func promptsHaveFourForms() throws {
        #expect(try parse(("prompt", "ab")).prompts == [.text("ab")])
        #expect(try parse(("prompt", ["ab", "c"])).prompts == [.text("ab"), .text("c")])
        #expect(try parse(("prompt", [1, 2])).prompts == [.tokens([1, 2])])
        #expect(try parse(("prompt", [[1, 2], [3]])).prompts == [.tokens([1, 2]), .tokens([3])])
    }

    /// What changes nothing may be there; the official client sends some of it.
    @Test func toleratesWhatChangesNothing() throws {
        _ = try parse(
            ("best_of", 1), ("suffix", ""), ("frequency_penalty", 0), ("presence_penalty", .number(0)),
            ("logit_bias", [:]),
            ("user", "me"), ("metadata", ["a": "b"]), ("store", false), ("repetition_penalty", 1))
        #expect(try parse(("max_tokens", .number(5)), ("min_p", .number(0.1))).maxTokens == 5)
        let request = try parse(
            ("stream", true), ("stream_options", ["include_usage": true, "include_obfuscation": false]), ("n", 3),
            ("best_of", 3), ("stop", ["a", "b", "c", "d"]), ("temperature", 0), ("logprobs", 5), ("seed", -1))
        #expect(request.includeUsage && request.choicesPerPrompt == 3 && request.stops.count == 4)
    }

    static let wrong: [(String, JSON)] = [
        ("model", nil), ("model", 1), ("prompt", nil), ("prompt", 1), ("prompt", [:]), ("prompt", []),
        ("prompt", [true]),
        ("prompt", ["a", 1]), ("prompt", [1, "a"]), ("prompt", [[1], "a"]), ("prompt", [["a"]]),
        ("prompt", [.number(1.5)]),
        ("prompt", .array(Array(repeating: "a", count: 129))), ("max_tokens", "1"), ("max_tokens", .number(1.5)),
        ("max_tokens", -1), ("max_tokens", 101), ("max_tokens", true), ("temperature", "1"), ("temperature", -1),
        ("temperature", .number(2.5)), ("temperature", []), ("top_p", 2), ("top_p", -1), ("top_p", "x"), ("top_k", 0),
        ("top_k", .number(1.5)), ("n", 0), ("n", 129), ("n", "2"), ("best_of", 2), ("best_of", "1"), ("stop", 1),
        ("stop", [1]), ("stop", ""), ("stop", ["a", ""]), ("stop", ["a", "b", "c", "d", "e"]), ("stop", [:]),
        ("stop", .string(String(repeating: "a", count: 257))), ("seed", "1"), ("seed", .number(0x1p70)),
        ("logprobs", 6),
        ("logprobs", -1), ("logprobs", true), ("echo", 1), ("echo", "true"), ("stream", 0), ("stream", "yes"),
        ("stream_options", true), ("stream_options", ["include_usage": true]), ("suffix", "x"),
        ("frequency_penalty", 1), ("presence_penalty", -1), ("logit_bias", ["1": 5]), ("nonsense", 1), ("min_p", 2),
        ("min_p", "x"), ("repetition_penalty", .number(1.1)),
    ]

    /// Every wrong type or value is refused, and named.
    @Test(arguments: wrong) func refuses(name: String, value: JSON) {
        let error = #expect(throws: APIError.self) { try Self.parse([(name, value)]) }
        #expect(error?.status == .badRequest && error?.parameter == name)
        #expect(error?.message.contains(name) == true)
    }

    /// However large it is, a whole number is not said to be none.
    @Test(arguments: ["max_tokens", "n", "top_k", "seed"]) func saysWhatIsTooLarge(name: String) throws {
        for text in ["1000000000000000000000000000000", "1e30"] {
            let error = #expect(throws: APIError.self) { try Self.parse([(name, try JSON(parsing: Array(text.utf8)))]) }
            #expect(error?.message.hasPrefix("\(name) must be a whole number from ") == true, "\(error?.message ?? "")")
        }
    }

    @Test func refusesTooManyChoices() throws {
        let prompts = JSON.array(Array(repeating: "a", count: 64))
        #expect(try parse(("prompt", prompts), ("n", 2)).prompts.count == 64)
        let error = #expect(throws: APIError.self) { try parse(("prompt", prompts), ("n", 3)) }
        #expect(error?.parameter == "n")
    }

    @Test(arguments: [JSON.null, 1, "a", [], true]) func refusesWhatIsNoObject(body: JSON) {
        let error = #expect(throws: APIError.self) { try CompletionRequest(body, limits: CompletionLimits()) }
        #expect(error?.status == .badRequest && error?.parameter == nil)
    }
}
