/// Counts durations in buckets, as Prometheus wants them.
struct Histogram: Sendable {
    /// Upper bounds in seconds.
    static let bounds = [
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
    ]
    /// By bucket, the last for what is above all bounds.
    private var counts = Array(repeating: 0, count: bounds.count + 1)
    private var sum = 0.0

    mutating func add(_ duration: Duration) {
        let seconds = duration / .seconds(1)
        counts[Self.bounds.firstIndex { seconds <= $0 } ?? Self.bounds.count] += 1
        sum += seconds
    }

    /// Lines of Prometheus' text format; `labels` like `model="demo"`.
    func lines(_ name: String, labels: String) -> [String] {
        var total = 0
        var lines: [String] = []
        for (count, bound) in zip(counts, Self.bounds.map { "\($0)" } + ["+Inf"]) {
            total += count
            lines.append("\(name)_bucket{\(labels),le=\"\(bound)\"} \(total)")
        }
        return lines + ["\(name)_sum{\(labels)} \(sum)", "\(name)_count{\(labels)} \(total)"]
    }
}

/// What one step of the batch adds.
struct StepMetrics {
    var promptTokens = 0
    var generatedTokens = 0
    var firstTokens: [Duration] = []
    var betweenTokens: [Duration] = []
}

/// What has been decoded since the start.
struct DecodingMetrics: Sendable {
    private(set) var promptTokens = 0
    private(set) var generatedTokens = 0
    /// From a request's arrival to its first token, and from token to token.
    private(set) var firstToken = Histogram()
    private(set) var betweenTokens = Histogram()

    mutating func add(_ step: StepMetrics) {
        promptTokens += step.promptTokens
        generatedTokens += step.generatedTokens
        for duration in step.firstTokens { firstToken.add(duration) }
        for duration in step.betweenTokens { betweenTokens.add(duration) }
    }
}

/// What a model has done, and what it has to do.
struct ModelMetrics: Sendable {
    let counted: DecodingMetrics
    /// Continuations.
    let waiting, running: Int
}
