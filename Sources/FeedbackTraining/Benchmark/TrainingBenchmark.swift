import FeedbackEngine
import FeedbackTransformer

/// Times training steps of random tokens beside the matrix products that they consist of.
public struct TrainingBenchmark {
    private let preset: RunConfiguration.Preset
    private let configuration: RunConfiguration
    private let model: ModelConfiguration
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
        guard configuration.precision.isSupported else {
            throw ConfigurationError(
                "this CPU does not compute in \(configuration.precision.rawValue); use --precision float32")
        }
        model = configuration.model(vocabulary: Self.vocabulary)
        try MemoryEstimate.check(
            model, steps: configuration.sequenceLength, batchSize: configuration.batchSize, carry: 0,
            threads: configuration.threads)
        self.preset = preset
        self.configuration = configuration
    }

    /// Verifies, warms up, and times a number of steps, or as many as take about ten seconds.
    public func run(steps: Int? = nil) throws(ConfigurationError) -> BenchmarkReport {
        let verified = try ReferenceCheck(configuration, narrow: configuration.precision != .float32).training()
        let model = try FeedbackModel(model, seed: UInt64(configuration.seed))
        var settings = AdamOptimizer.Settings()
        settings.beta2 = configuration.beta2
        settings.weightDecay = configuration.weightDecay
        settings.gradientClip = configuration.gradientClip
        let optimizer = AdamOptimizer(model.parameters.table, settings: settings)
        let pass = makePass(model, makeExecutor)
        pass.parametersChanged()
        var random = RandomSource(seed: UInt64(configuration.seed))
        func step(_ pass: TrainingPass) -> Double {
            let tokens = (0..<configuration.sequenceLength * configuration.batchSize).map { _ in
                Int32(random.below(Self.vocabulary))
            }
            return seconds {
                _ = pass.run(inputs: tokens, targets: tokens)
                _ = optimizer.update(pass, learningRate: 1e-4)
            }
        }
        _ = step(pass)
        let peak = peakMemory()
        let (phases, replay) = instrument(model, step)
        pass.parametersChanged()
        // The first time touches memory and prepares products.
        replay.run()
        let (times, limits) = alternate(steps) {
            step(pass)
        } limit: {
            seconds { replay.run() }
        }
        return BenchmarkReport(
            preset, precision: configuration.precision.rawValue, threads: configuration.threads,
            tokens: configuration.sequenceLength * configuration.batchSize, seconds: times, limits: limits,
            work: replay.operations, peakMemoryBytes: peak, phases: phases, verifiedWithin: verified)
    }

    private func makeExecutor() -> any Executor { CPUExecutor(configuration.precision) }

    private func makePass(_ model: FeedbackModel, _ makeExecutor: () -> any Executor) -> TrainingPass {
        TrainingPass(
            model.parameters, steps: configuration.sequenceLength, batchSize: configuration.batchSize,
            threads: configuration.threads, makeExecutor: makeExecutor)
    }

    /// Steps through instrumented executors: where the time of the middle one went, the mean over the workers, and the
    /// products of a step.
    private func instrument(
        _ model: FeedbackModel, _ step: (TrainingPass) -> Double
    ) -> (phases: [String: Double], replay: ProductReplay) {
        var executors: [InstrumentedExecutor] = []
        let pass = makePass(model) {
            executors.append(InstrumentedExecutor(makeExecutor()))
            return executors.last!
        }
        pass.parametersChanged()
        // The first step touches memory.
        _ = step(pass)
        var steps: [(seconds: Double, phases: [TrainingPhase: Double])] = []
        while steps.reduce(0, { $0 + $1.seconds }) < 1 {
            for executor in executors { executor.reset() }
            let seconds = step(pass)
            var phases: [TrainingPhase: Double] = [:]
            for (phase, seconds) in executors.flatMap(\.seconds) {
                phases[phase, default: 0] += seconds / Double(executors.count)
            }
            phases[.other] = seconds - phases.values.reduce(0, +)
            steps.append((seconds, phases))
        }
        let middle = steps.sorted { $0.seconds < $1.seconds }[steps.count / 2]
        let replay = ProductReplay(executors.map(\.products), makeExecutor: makeExecutor)
        return (Dictionary(uniqueKeysWithValues: middle.phases.map { ($0.rawValue, $1) }), replay)
    }
}
