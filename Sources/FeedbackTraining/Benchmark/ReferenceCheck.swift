import FeedbackEngine
import FeedbackTransformer

/// What a benchmark does before it times anything: a small model with the same wiring, precision and threads must agree
/// with the Double reference.
struct ReferenceCheck {
    private let configuration: RunConfiguration
    private let model: FeedbackModel
    private let reference: any TrainingSession
    private let shape: BatchShape
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
        self.shape = BatchShape(steps: steps, batchSize: batch)
        reference = ReferenceBackend().training(model, self.shape)
        self.model = model
        self.configuration = configuration
        (tolerance, smallestNorm) = narrow ? (4e-2, 5e-2) : (1e-4, 1e-2)
    }

    /// Throws where logits or any gradient is out of tolerance; returns the largest error as a share of it.
    func training(on backend: any Backend) throws -> Double {
        let session = try backend.training(model, shape)
        var worst = try share(of: session.logits(tokens), "logits")
        let batch = Batch(
            steps: steps, rows: batch, inputs: tokens, targets: Array(tokens.dropFirst() + tokens.prefix(1)))
        _ = session.gradient(of: [batch], dropout: nil)
        _ = reference.gradient(of: [batch], dropout: nil)
        let (gradient, expected) = (session.read(.gradient), reference.read(.gradient))
        var sensitivity: [String: Double] = [:]
        if configuration.precision != .float32 {
            let exact = ReferenceBackend().training(model, shape)
            sensitivity = sensitivityToRounding(of: exact, model, batch, times: 8, seed: 3) {
                distance($0, expected, $1.name)
            }
        }
        for parameter in expected.table.parameters {
            worst = max(
                worst,
                try check(
                    distance(gradient, expected, parameter.name), "the gradient of \(parameter.name)",
                    within: max(tolerance, 2 * (sensitivity[parameter.name] ?? 0))))
        }
        return worst
    }

    /// How far a gradient is from the reference's, as a share of its norm.
    private func distance(_ gradient: Parameters, _ expected: Parameters, _ name: String) -> Double {
        let (values, expected) = (gradient[name].map(Double.init), expected[name].map(Double.init))
        let norm = expected.reduce(0) { $0 + $1 * $1 }.squareRoot()
        let error = zip(values, expected).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
        return error.squareRoot() / (norm + smallestNorm)
    }

    /// The same for a decoder's logits, all sequences stepped together.
    func decoding(on backend: any Backend) throws -> Double {
        let decoder = try backend.decoding(model, memoryWindow: model.configuration.window)
        let sequences = (0..<batch).map { _ in decoder.makeSequence() }
        var logits: [Float] = []
        for step in 0..<steps {
            let rows = decoder.step(sequences, tokens: Array(tokens[step * batch..<(step + 1) * batch]))
            logits += rows.joined()
        }
        return try share(of: logits, "logits")
    }

    private func share(of logits: [Float], _ name: String) throws(ConfigurationError) -> Double {
        try check(
            zip(logits, reference.logits(tokens)).reduce(0) { max($0, Double(abs($1.0 - $1.1))) }, name,
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
