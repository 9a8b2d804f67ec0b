import FeedbackEngine
import FeedbackTransformer

/// Times the generation of tokens, the memory window full, beside the reading of what a token needs.
public struct DecodingBenchmark {
    private let preset: RunConfiguration.Preset
    private let configuration: RunConfiguration
    private let precision: DecodingPrecision
    private let backend: any Backend
    private let model: ModelConfiguration
    private static let vocabulary = 65

    /// Throws on settings that no model can have. The precision is the decoder's, as the configuration's is training's.
    public init(
        _ preset: RunConfiguration.Preset, _ configuration: RunConfiguration, precision: DecodingPrecision
    ) throws(ConfigurationError) {
        try configuration.validate()
        model = configuration.model(vocabulary: Self.vocabulary)
        backend = try configuration.device.backend(threads: configuration.threads, decodingPrecision: precision)
        try backend.checkFit(model, BatchShape(steps: 1, batchSize: configuration.batchSize))
        self.preset = preset
        self.configuration = configuration
        self.precision = precision
    }

    /// Tokens of every sequence in one timed run.
    private var length: Int { min(max(model.window, 32), 256) }

    /// Verifies, fills the memory, and times a number of runs, or as many as take about ten seconds.
    public func run(steps: Int? = nil) throws -> BenchmarkReport {
        let verified = try ReferenceCheck(configuration, narrow: precision != .float32).decoding(on: backend)
        let model = try FeedbackModel(model, seed: UInt64(configuration.seed))
        let decoder = try backend.decoding(model, memoryWindow: model.configuration.window)
        let sequences = (0..<configuration.batchSize).map { _ in decoder.makeSequence() }
        var tokens = sequences.indices.map { Int32($0 % Self.vocabulary) }
        var choosing = 0.0
        func generate() {
            let logits = decoder.step(sequences, tokens: tokens)
            choosing += seconds {
                tokens = logits.map { row in Int32(row.indices.max { row[$0] < row[$1] }!) }
            }
        }
        for _ in 0..<2 * model.configuration.window { generate() }
        let peak = peakMemory()
        guard let limit = decoder.limit(sequences: sequences.count) else {
            throw ConfigurationError(
                "this device does not tell what it could do at most; there is nothing to compare with")
        }
        choosing = 0
        let (times, limits) = alternate(steps) {
            seconds { for _ in 0..<length { generate() } } / Double(length)
        } limit: {
            limit.seconds()
        }
        let choice = choosing / Double(times.count * length)
        return BenchmarkReport(
            preset, precision: precision.rawValue, threads: configuration.threads, tokens: configuration.batchSize,
            seconds: times, limits: limits, work: limit.work, peakMemoryBytes: peak,
            phases: ["decoder": times.reduce(0, +) / Double(times.count) - choice, "choice": choice],
            verifiedWithin: verified)
    }
}
