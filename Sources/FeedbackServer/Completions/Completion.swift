import FeedbackTransformer
import Foundation
import HTTPTypes
import HummingbirdCore
import NIOCore

/// The answer to a request, whole or as a stream of server-sent events.
struct Completion: Sendable {
    private let request: CompletionRequest
    private let generations: [Generation]
    private let ticket: GenerationTicket
    private let tokenizer: Tokenizer
    private let id = "cmpl-" + (0..<24).map { _ in String(Int.random(in: 0..<16), radix: 16) }.joined()
    private let created = Int(Date().timeIntervalSince1970)

    /// Starts it. Throws on a request that the model cannot answer, or not now.
    init(_ request: CompletionRequest, _ model: ServedModel) throws(APIError) {
        self.request = request
        generations = try model.generations(request)
        ticket = try model.loop.submit(generations)
        tokenizer = model.folder.tokenizer
    }

    /// Nobody waits for it any more.
    func cancel() { ticket.cancel() }

    private var choices: [CompletionChoice] { generations.map { CompletionChoice($0, request, tokenizer) } }

    // MARK: Whole

    /// Waits for all choices. Throws where one has failed, or the client has gone.
    func whole() async throws -> Response {
        defer { ticket.cancel() }
        var choices = choices
        var parts = Array(repeating: CompletionChoice.Piece(), count: choices.count)
        for await event in ticket.events {
            guard let piece = try choices[event.index].take(event.event) else { continue }
            parts[event.index].append(piece)
        }
        guard parts.allSatisfy({ $0.finish != nil }) else { throw CancellationError() }
        return Response(json: json(parts.enumerated().map(choice), usage: usage(choices)))
    }

    // MARK: Stream

    /// A response that gives text as it comes: an event for each token that makes some certain, then `[DONE]`.
    func streamed() -> Response {
        Response(
            status: .ok,
            headers: [.contentType: "text/event-stream", .cacheControl: "no-cache", .xContentTypeOptions: "nosniff"],
            body: ResponseBody { writer in
                defer { ticket.cancel() }
                try await write(to: &writer)
                try await writer.finish(nil)
            })
    }

    private func write(to writer: inout any ResponseBodyWriter) async throws {
        var choices = choices
        var ended = 0
        do {
            for await event in ticket.events {
                guard let piece = try choices[event.index].take(event.event) else { continue }
                // Who reads slowly is told of a failure first.
                if ticket.hasFailed { continue }
                if piece.finish != nil { ended += 1 } else if piece.text.isEmpty { continue }
                let usage: JSON? = request.includeUsage ? .null : nil
                try await writer.write(serverSentEvent(json([choice(event.index, piece)], usage: usage)))
            }
        } catch let error as APIError {
            return try await writer.write(serverSentEvent(error.json))
        }
        guard ended == choices.count else { throw CancellationError() }
        if request.includeUsage { try await writer.write(serverSentEvent(json([], usage: usage(choices)))) }
        try await writer.write(ByteBuffer(string: "data: [DONE]\n\n"))
    }

    // MARK: Parts

    private func json(_ choices: [JSON], usage: JSON?) -> JSON {
        var members: [(String, JSON)] = [
            ("id", .string(id)), ("object", "text_completion"), ("created", .integer(created)),
            ("model", .string(request.model)), ("choices", .array(choices)),
        ]
        if let usage { members.append(("usage", usage)) }
        return .object(members.map { JSON.Member(name: $0, value: $1) })
    }

    private func choice(_ index: Int, _ piece: CompletionChoice.Piece) -> JSON {
        [
            "text": .string(piece.text), "index": .integer(index), "logprobs": piece.logprobs?.json ?? .null,
            "finish_reason": JSON(piece.finish?.rawValue),
        ]
    }

    /// A prompt counts once, however many choices continue it.
    private func usage(_ choices: [CompletionChoice]) -> JSON {
        let prompts = stride(from: 0, to: generations.count, by: request.choicesPerPrompt)
            .reduce(0) { $0 + generations[$1].prompt.count }
        let tokens = choices.reduce(0) { $0 + $1.tokens }
        return [
            "prompt_tokens": .integer(prompts), "completion_tokens": .integer(tokens),
            "total_tokens": .integer(prompts + tokens),
        ]
    }
}

/// One event without a name.
func serverSentEvent(_ json: JSON) -> ByteBuffer {
    var bytes = Array("data: ".utf8)
    json.write(into: &bytes)
    bytes += "\n\n".utf8
    return ByteBuffer(bytes: bytes)
}

/// One choice of a completion: what its events make of it, piece by piece.
struct CompletionChoice {
    /// What has come with an event: some text, the log-probabilities of its tokens, and at the end why it has ended.
    struct Piece {
        var text = ""
        /// nil where none were asked for.
        var logprobs: [TokenLogprob]?
        var finish: FinishReason?

        mutating func append(_ next: Piece) {
            text += next.text
            if let more = next.logprobs { logprobs = (logprobs ?? []) + more }
            finish = next.finish
        }
    }
    private var record: LogprobRecord?
    /// The prompt, where it is told: it comes with the first piece.
    private var echo: String
    /// The prompt's tokens whose log-probabilities are still to come.
    private var echoed: ArraySlice<Int32> = []
    private var echoedBytes = 0
    private(set) var tokens = 0

    init(_ generation: Generation, _ request: CompletionRequest, _ tokenizer: Tokenizer) {
        record = request.logprobs.map { _ in LogprobRecord(tokenizer) }
        echo = request.echo ? generation.promptText : ""
        if request.echo, record != nil {
            echoed = generation.prompt.dropFirst()
            echoedBytes = generation.prompt.reduce(tokenizer.separator.utf8.count * (generation.prompt.count - 1)) {
                $0 + tokenizer.bytes(of: $1).count
            }
            record!.append(generation.prompt[0], nil)
        } else {
            record?.follow(generation.promptText)
        }
    }

    /// Throws where the continuation has failed.
    mutating func take(_ event: GenerationEvent) throws(APIError) -> Piece? {
        switch event {
        case .prompt(let likely):
            if let token = echoed.popFirst() { record?.append(token, likely) }
            return nil
        case .token(let token, let text, let bytes, let likely):
            tokens += 1
            record?.append(token, likely)
            return piece(text, bytes, nil)
        case .end(let reason, let text, let bytes): return piece(text, bytes, reason)
        case .failed(let error): throw error
        }
    }

    private mutating func piece(_ text: String, _ bytes: Int, _ finish: FinishReason?) -> Piece {
        defer { (echo, echoedBytes) = ("", 0) }
        return Piece(text: echo + text, logprobs: record?.take(echoedBytes + bytes), finish: finish)
    }
}
