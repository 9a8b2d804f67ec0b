import FeedbackEngine
import FeedbackTransformer

/// What a benchmark does before it times anything: a small model with the same wiring, precision and threads must agree
/// with the Double reference.
struct ReferenceCheck {
    private let configuration: RunConfiguration
    private let model: FeedbackModel
    private let reference: TrainingPass
    private let tokens: [Int32]
    private let (steps, batch): (Int, Int)
    /// The largest difference of a logit, and of a gradient as a share of its norm.
    var tolerance: Double
    /// Added to a gradient's norm: what is nearly zero has no relative error.
    private let smallestNorm: Double

    /// - Parameter narrow: whether what is checked computes in narrower numbers than float32.
    init(_ configuration: RunConfiguration, narrow: Bool = false) throws(ConfigurationError) {
        var small = configuration
        small.layers = min(configuration.layers, 2)
        small.heads = min(configuration.heads, 4)
        small.dModel = small.heads * min(configuration.dModel / configuration.heads, 16)
        small.dFF = min(configuration.dFF, 96)
        small.memoryWindow = configuration.memoryWindow.map { min($0, 12) }
        (steps, batch) = (20, configuration.threads + 1)
        var shape = small.model(vocabulary: 11)
        shape.positions = 32
        let model = try FeedbackModel(shape, seed: 1)
        var random = RandomSource(seed: 2)
        tokens = (0..<steps * batch).map { _ in Int32(random.below(11)) }
        let exact = ParameterStore(model.parameters.table, executor: ReferenceExecutor())
        exact.copy(from: model.parameters)
        reference = TrainingPass(exact, steps: steps, batchSize: batch, threads: 1) { ReferenceExecutor() }
        reference.parametersChanged()
        self.model = model
        self.configuration = configuration
        (tolerance, smallestNorm) = narrow ? (4e-2, 5e-2) : (1e-4, 1e-2)
    }

    /// Throws where logits or any gradient is out of tolerance; returns the largest error as a share of it.
    func training() throws(ConfigurationError) -> Double {
        let pass = TrainingPass(
            model, steps: steps, batchSize: batch, threads: configuration.threads,
            precision: configuration.precision)
        pass.parametersChanged()
        var worst = try share(of: pass.logits(inputs: tokens), "logits")
        let targets = Array(tokens.dropFirst() + tokens.prefix(1))
        _ = pass.run(inputs: tokens, targets: targets)
        _ = reference.run(inputs: tokens, targets: targets)
        let sensitivity = configuration.precision == .float32 ? [:] : sensitivity(targets)
        for parameter in model.parameters.table.parameters {
            worst = max(
                worst,
                try check(
                    distance(pass, parameter.name), "the gradient of \(parameter.name)",
                    within: max(tolerance, 2 * (sensitivity[parameter.name] ?? 0))))
        }
        return worst
    }

    /// How far a pass's gradient is from the reference's, as a share of its norm.
    private func distance(_ pass: TrainingPass, _ name: String) -> Double {
        let expected = reference.gradient[name]
        let norm = expected.reduce(0) { $0 + $1 * $1 }.squareRoot()
        let error = zip(pass.gradient[name], expected).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
        return error.squareRoot() / (norm + smallestNorm)
    }

    /// How far each gradient of the reference moves at most, of eight times, where every weight is rounded to one of its two
    /// neighbours in bfloat16 and nothing else is (as `Fixture.verify` has it).
    private func sensitivity(_ targets: [Int32]) -> [String: Double] {
        let exact = ParameterStore(model.parameters.table, executor: ReferenceExecutor())
        let pass = TrainingPass(exact, steps: steps, batchSize: batch, threads: 1) { ReferenceExecutor() }
        var random = RandomSource(seed: 3)
        var largest: [String: Double] = [:]
        for _ in 0..<8 {
            exact.values = model.parameters.values.map { Double(neighbour(of: Float($0), using: &random)) }
            pass.parametersChanged()
            _ = pass.run(inputs: tokens, targets: targets)
            for parameter in exact.table.parameters {
                largest[parameter.name] = max(largest[parameter.name] ?? 0, distance(pass, parameter.name))
            }
        }
        return largest
    }

    /// The same for a decoder's logits, all sequences stepped together.
    func decoding(_ precision: DecodingPrecision) throws(ConfigurationError) -> Double {
        let decoder = Decoder(model, precision: precision, threads: configuration.threads)
        let sequences = (0..<batch).map { _ in decoder.makeSequence() }
        var logits: [Double] = []
        for step in 0..<steps {
            let rows = decoder.step(sequences, tokens: Array(tokens[step * batch..<(step + 1) * batch]))
            logits += rows.joined().map(Double.init)
        }
        return try share(of: logits, "logits")
    }

    private func share(of logits: [Double], _ name: String) throws(ConfigurationError) -> Double {
        try check(
            zip(logits, reference.logits(inputs: tokens)).reduce(0) { max($0, abs($1.0 - $1.1)) }, name,
            within: tolerance)
    }

    /// The error as a share of the tolerance.
    private func check(
        _ error: Double, _ name: String, within tolerance: Double
    ) throws(ConfigurationError) -> Double {
        guard error <= tolerance else {
            throw ConfigurationError(
                "nothing was timed: on this machine \(name) differs from the reference by \(error), more than "
                    + "\(tolerance); run feedback verify, and report it with the versions of CPU and oneDNN")
        }
        return error / tolerance
    }
}
