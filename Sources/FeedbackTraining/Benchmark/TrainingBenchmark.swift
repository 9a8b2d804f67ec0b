import FeedbackTransformer

/// Times training steps of random tokens beside the matrix products that they consist of.
public struct TrainingBenchmark {
    private let preset: RunConfiguration.Preset
    private let configuration: RunConfiguration
    private let model: ModelConfiguration
    private let shape: BatchShape
    private static let vocabulary = 65

    /// Throws on settings that no model can have, or that this machine has no memory for.
    public init(_ preset: RunConfiguration.Preset, _ configuration: RunConfiguration) throws(ConfigurationError) {
        try configuration.validate()
        guard configuration.dropout == 0, configuration.accumulate == 1, configuration.streams != true,
            configuration.curriculum == nil
        else {
            throw ConfigurationError(
                "the benchmark times plain steps; leave out dropout, accumulate, streams and curriculum")
        }
        model = configuration.model(vocabulary: Self.vocabulary)
        shape = BatchShape(steps: configuration.sequenceLength, batchSize: configuration.batchSize)
        try configuration.backend.checkFit(model, shape)
        self.preset = preset
        self.configuration = configuration
    }

    /// Verifies, warms up, and times a number of steps, or as many as take about ten seconds.
    public func run(steps: Int? = nil) throws -> BenchmarkReport {
        let backend = try configuration.backend
        let verified = try ReferenceCheck(configuration, narrow: configuration.precision != .float32)
            .training(on: backend)
        let model = try FeedbackModel(model, seed: UInt64(configuration.seed))
        let session = try backend.training(model, shape)
        var optimizer = AdamOptimizer(configuration)
        var random = RandomSource(seed: UInt64(configuration.seed))
        func step() -> Double {
            let tokens = (0..<shape.steps * shape.batchSize).map { _ in Int32(random.below(Self.vocabulary)) }
            let batch = Batch(steps: shape.steps, rows: shape.batchSize, inputs: tokens, targets: tokens)
            return seconds {
                _ = session.gradient(of: [batch], dropout: nil)
                _ = optimizer.update(session, learningRate: 1e-4)
            }
        }
        // The first step touches memory.
        _ = step()
        let peak = peakMemory()
        let profile = try profile(session) { step() }
        // The first time touches memory and prepares products.
        _ = profile.limit.seconds()
        let (times, limits) = alternate(steps, step: step, limit: profile.limit.seconds)
        return BenchmarkReport(
            preset, precision: configuration.precision.rawValue, threads: configuration.threads,
            tokens: shape.steps * shape.batchSize, seconds: times, limits: limits,
            work: profile.limit.work, peakMemoryBytes: peak, phases: profile.phases, verifiedWithin: verified)
    }

    /// The profile of the middle one of a second's steps.
    private func profile(_ session: any TrainingSession, _ step: () -> Double) throws -> StepProfile {
        var steps: [(seconds: Double, profile: StepProfile)] = []
        while steps.reduce(0, { $0 + $1.seconds }) < 1 {
            var seconds = 0.0
            guard let profile = session.profile({ seconds = step() }) else {
                throw ConfigurationError(
                    "this device does not tell what it could do at most; there is nothing to compare with")
            }
            steps.append((seconds, profile))
        }
        return steps.sorted { $0.seconds < $1.seconds }[steps.count / 2].profile
    }
}
