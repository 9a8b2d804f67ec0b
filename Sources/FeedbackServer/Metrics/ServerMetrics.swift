import Synchronization

/// Counts answers by path and status.
final class RequestCounters: Sendable {
    private struct Key: Hashable {
        let path: String
        let status: Int
    }
    private let counts = Mutex<[Key: Int]>([:])
    /// Others are counted together: a client must not make the list longer.
    private static let paths: Set<String> = ["/v1/completions", "/v1/models", "/health", "/metrics"]

    func count(_ path: String, _ status: Int) {
        let key = Key(path: Self.paths.contains(path) ? path : "other", status: status)
        counts.withLock { $0[key, default: 0] += 1 }
    }

    var text: String {
        let counts = counts.withLock { $0 }.sorted { ($0.key.path, $0.key.status) < ($1.key.path, $1.key.status) }
        return family(
            "feedback_requests_total", "counter", "Requests answered.",
            counts.map { "feedback_requests_total{path=\"\($0.path)\",status=\"\($0.status)\"} \($1)" })
    }
}

/// What the models have done, in Prometheus' text format.
func prometheus(_ models: [(id: String, metrics: ModelMetrics)]) -> String {
    func label(_ id: String) -> String {
        let escaped = id.unicodeScalars.map { ["\\": #"\\"#, "\"": #"\""#, "\n": #"\n"#][$0] ?? String($0) }.joined()
        return "model=\"\(escaped)\""
    }
    func values(_ name: String, _ kind: String, _ help: String, _ value: (ModelMetrics) -> Int) -> String {
        family(name, kind, help, models.map { "\(name){\(label($0.id))} \(value($0.metrics))" })
    }
    func histogram(_ name: String, _ help: String, _ value: (DecodingMetrics) -> Histogram) -> String {
        family(
            name, "histogram", help, models.flatMap { value($0.metrics.counted).lines(name, labels: label($0.id)) })
    }
    return values("feedback_prompt_tokens_total", "counter", "Tokens of prompts taken in.") { $0.counted.promptTokens }
        + values("feedback_generated_tokens_total", "counter", "Tokens generated.") { $0.counted.generatedTokens }
        + values("feedback_queue_depth", "gauge", "Continuations that wait for a place.") { $0.waiting }
        + values("feedback_running_sequences", "gauge", "Continuations being generated.") { $0.running }
        + histogram("feedback_time_to_first_token_seconds", "From a request to its first token.") { $0.firstToken }
        + histogram("feedback_inter_token_seconds", "From a continuation's token to the next.") { $0.betweenTokens }
}

private func family(_ name: String, _ kind: String, _ help: String, _ lines: [String]) -> String {
    (["# HELP \(name) \(help)", "# TYPE \(name) \(kind)"] + lines).map { $0 + "\n" }.joined()
}
