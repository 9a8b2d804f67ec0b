import FeedbackTransformer
import Synchronization

/// One continuation to be generated.
struct Generation: Sendable {
    /// At least one token, all in the vocabulary.
    var prompt: [Int32]
    var promptText: String
    var maxTokens: Int
    var sampler: Sampler
    var stops: [String] = []
    /// How many of the likeliest tokens are told beside each; nil for not even its own log-probability.
    var logprobs: Int?
    /// Whether that is told of the prompt's tokens too.
    var tellsPromptLogprobs = false
}

enum FinishReason: String, Sendable {
    /// A stop text has come.
    case stop
    case length
}

/// What has become of a continuation.
enum GenerationEvent: Sendable {
    /// How likely the prompt's next token was.
    case prompt(LikelyTokens)
    /// A token has been chosen; the text that is certain by now, which may be empty, and of how many bytes it was.
    case token(Int32, text: String, bytes: Int, LikelyTokens?)
    /// The last event, with the text that was held back.
    case end(FinishReason, text: String, bytes: Int)
    /// The last event where it cannot go on.
    case failed(APIError)
}

/// Several continuations that were asked for together, while they are generated. Their events come in one stream.
final class GenerationTicket: Sendable {
    struct Event: Sendable {
        /// Which of the continuations.
        let index: Int
        let event: GenerationEvent
    }
    /// Ends when all continuations have, or after `cancel`.
    let events: AsyncStream<Event>
    private let continuation: AsyncStream<Event>.Continuation
    private let cancelled = Atomic(false)
    private let failed = Atomic(false)
    private let left: Atomic<Int>

    /// Whoever reads may be slow: a continuation's length is limited, so what waits is too.
    init(count: Int) {
        (events, continuation) = AsyncStream.makeStream()
        left = Atomic(count)
    }

    var isCancelled: Bool { cancelled.load(ordering: .relaxed) }

    /// Nobody wants the rest: what is being generated ends before the next token.
    func cancel() {
        cancelled.store(true, ordering: .relaxed)
        continuation.finish()
    }

    /// Whether a continuation has failed: what is still to be read before that is of no use.
    var hasFailed: Bool { failed.load(ordering: .relaxed) }

    func send(_ event: GenerationEvent, index: Int) {
        if case .failed = event { failed.store(true, ordering: .relaxed) }
        continuation.yield(Event(index: index, event: event))
        switch event {
        case .end, .failed: if left.subtract(1, ordering: .relaxed).newValue == 0 { continuation.finish() }
        case .prompt, .token: break
        }
    }
}

/// A continuation on its way. It belongs to the decoding thread once it is submitted.
final class GenerationJob: @unchecked Sendable {
    let ticket: GenerationTicket
    let submitted = ContinuousClock.now
    private let index: Int
    private let generation: Generation
    private var sampler: Sampler
    private var text: TextStream
    private var sequence: (any DecodingSequence)?
    /// Tokens taken in, of the prompt.
    private var taken = 0
    private var produced = 0
    private var token: Int32 = 0
    /// When its last token came.
    private var last: ContinuousClock.Instant?

    init(_ generation: Generation, index: Int, tokenizer: Tokenizer, ticket: GenerationTicket) {
        self.generation = generation
        self.index = index
        self.ticket = ticket
        sampler = generation.sampler
        text = TextStream(tokenizer, after: generation.promptText, stops: generation.stops)
    }

    /// Where nothing need be computed, ends at once.
    func endIfEmpty() -> Bool {
        guard generation.maxTokens == 0 && !generation.tellsPromptLogprobs else { return false }
        end()
        return true
    }

    func begin(_ session: any DecodingSession) { sequence = session.makeSequence() }

    /// What the next step takes.
    var step: (sequence: any DecodingSequence, token: Int32) {
        (sequence!, taken < generation.prompt.count ? generation.prompt[taken] : token)
    }

    func fail(_ error: APIError) { ticket.send(.failed(error), index: index) }

    /// It is as long as it may be.
    private func end() {
        let given = text.bytesGiven
        let rest = text.finish()
        ticket.send(.end(.length, text: rest, bytes: text.bytesGiven - given), index: index)
    }

    private func likely(_ token: Int32, _ logits: [Float]) -> LikelyTokens? {
        generation.logprobs.map { LikelyTokens(token, logits, count: $0) }
    }

    /// Takes the logits of its step; whether there are more to come.
    func advance(_ logits: [Float], at now: ContinuousClock.Instant, _ metrics: inout StepMetrics) -> Bool {
        if taken < generation.prompt.count {
            taken += 1
            metrics.promptTokens += 1
            if taken < generation.prompt.count {
                if generation.tellsPromptLogprobs, let likely = likely(generation.prompt[taken], logits) {
                    ticket.send(.prompt(likely), index: index)
                }
                return true
            }
            if generation.maxTokens == 0 {
                end()
                return false
            }
        }
        do {
            token = try sampler.next(logits)
        } catch {
            fail(APIError(status: .internalServerError, message: "\(error)"))
            return false
        }
        produced += 1
        metrics.generatedTokens += 1
        if let last { metrics.betweenTokens.append(now - last) } else { metrics.firstTokens.append(now - submitted) }
        last = now
        let given = text.bytesGiven
        let piece = text.append(token)
        ticket.send(
            .token(token, text: piece, bytes: text.bytesGiven - given, likely(token, logits)), index: index)
        if text.isStopped {
            ticket.send(.end(.stop, text: "", bytes: 0), index: index)
            return false
        }
        if produced < generation.maxTokens { return true }
        end()
        return false
    }
}
