import FeedbackEngine
import FeedbackTransformer

/// Times the generation of tokens, the memory window full, beside the reading of what a token needs.
public struct DecodingBenchmark {
    private let preset: RunConfiguration.Preset
    private let configuration: RunConfiguration
    private let precision: DecodingPrecision
    private let model: ModelConfiguration
    private static let vocabulary = 65

    /// Throws on settings that no model can have. The precision is the decoder's, as the configuration's is training's.
    public init(
        _ preset: RunConfiguration.Preset, _ configuration: RunConfiguration, precision: DecodingPrecision
    ) throws(ConfigurationError) {
        try configuration.validate()
        model = configuration.model(vocabulary: Self.vocabulary)
        try MemoryEstimate.check(
            model, steps: 1, batchSize: configuration.batchSize, carry: 0, threads: configuration.threads)
        self.preset = preset
        self.configuration = configuration
        self.precision = precision
    }

    /// Tokens of every sequence in one timed run.
    private var length: Int { min(max(model.window, 32), 256) }

    /// What a step of all sequences reads at least once: the weights, the window's keys and values and distance biases.
    private var bytesPerStep: Int {
        let (D, F, L) = (model.dModel, model.dFF, model.layers)
        let keyValues = model.keyValue == .shared ? 1 : L
        let memories = model.memory == .perLayer ? L : keyValues
        let weights = L * (2 * D * D + 2 * D * F) + keyValues * 2 * D * D + model.vocabulary * D
        let positions = L * model.window * D
        return Int(precision.weightBytes * Double(weights))
            + precision.memoryBytes * (positions + configuration.batchSize * memories * model.window * 2 * D)
    }

    /// Verifies, fills the memory, and times a number of runs, or as many as take about ten seconds.
    public func run(steps: Int? = nil) throws(ConfigurationError) -> BenchmarkReport {
        let verified = try ReferenceCheck(configuration, narrow: precision != .float32).decoding(precision)
        let model = try FeedbackModel(model, seed: UInt64(configuration.seed))
        let decoder = Decoder(
            model, memoryWindow: model.configuration.window, precision: precision, threads: configuration.threads)
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
        let stream = MemoryStream(bytes: bytesPerStep, threads: configuration.threads)
        choosing = 0
        let (times, limits) = alternate(steps) {
            seconds { for _ in 0..<length { generate() } } / Double(length)
        } limit: {
            Double(bytesPerStep) / stream.bytesPerSecond()
        }
        let choice = choosing / Double(times.count * length)
        return BenchmarkReport(
            preset, precision: precision.rawValue, threads: configuration.threads, tokens: configuration.batchSize,
            seconds: times, limits: limits, work: Double(bytesPerStep), peakMemoryBytes: peak,
            phases: ["decoder": times.reduce(0, +) / Double(times.count) - choice, "choice": choice],
            verifiedWithin: verified)
    }
}
