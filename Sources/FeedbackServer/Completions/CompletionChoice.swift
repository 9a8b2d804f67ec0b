import FeedbackTransformer

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
