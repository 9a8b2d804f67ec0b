import FeedbackEngine
import FeedbackTransformer
import Foundation

/// A fixture: a small random model written by PyTorch, a batch, and what PyTorch made of it.
public struct Fixture {
    public let configuration: ModelConfiguration
    public let steps: Int
    public let batchSize: Int
    public let inputs: [Int32]
    public let targets: [Int32]
    let learningRate: Double
    let gradientClip: Double
    let file: Safetensors

    public init(contentsOf url: URL) throws {
        let file = try Safetensors(contentsOf: url)
        do { try self.init(file) } catch { throw FileError("\(url.path): \(error)") }
    }

    private init(_ file: Safetensors) throws {
        func text(_ key: String) throws -> String {
            guard let value = file.metadata[key] else {
                throw ConfigurationError("it is not a fixture: its metadata lacks \(key)")
            }
            return value
        }
        func number<N: LosslessStringConvertible>(_ key: String, as type: N.Type = N.self) throws -> N {
            guard let value = N(try text(key)) else {
                throw ConfigurationError("it is not a fixture: its \(key) is \(try text(key))")
            }
            return value
        }
        func choice<C: RawRepresentable<String>>(_ key: String, as type: C.Type = C.self) throws -> C {
            let name = try text(key).replacingOccurrences(of: "_", with: "-")
            guard let value = C(rawValue: name) else { throw ConfigurationError("it has the unknown \(key) \(name)") }
            return value
        }
        if let format = file.metadata["format"], format != "labml" {
            throw ConfigurationError("it has the format \(format); verify needs labml")
        }
        configuration = ModelConfiguration(
            memory: try choice("memory"), keyValue: try choice("key_value"),
            memoryNorm: file.metadata["memory_norm"] == nil ? .none : try choice("memory_norm"),
            layers: try number("layers"),
            dModel: try number("d_model"), heads: try number("heads"), dFF: try number("d_ff"),
            vocabulary: try number("vocab"), positions: try number("positions"))
        try configuration.validate()
        learningRate = try number("adam_lr")
        gradientClip = try number("grad_clip")
        guard let shape = file.entries["inputs"]?.shape, shape.count == 2, shape.allSatisfy({ $0 > 0 }),
            file.entries["targets"]?.shape == shape
        else { throw ConfigurationError("inputs and targets must both be [steps, batch]") }
        (steps, batchSize) = (shape[0], shape[1])
        inputs = try file.integers("inputs")
        targets = try file.integers("targets")
        for token in inputs + targets where token < 0 || token >= configuration.vocabulary {
            throw ConfigurationError("the token \(token) is outside the vocabulary")
        }
        // Before anything is allocated: sizes are what the file's tensors have, not what its metadata claim. More tables than
        // tensors need not be listed to be told.
        guard configuration.layers <= file.entries.count else { throw SafetensorsError.missing("weights of layers") }
        for parameter in ParameterTable(configuration).parameters {
            try file.check("weights.\(parameter.name)", shape: parameter.shape)
            try file.check("grads.\(parameter.name)", shape: parameter.shape)
        }
        try file.check("logits", shape: shape + [configuration.vocabulary])
        try file.check("loss", shape: [1])
        try file.check("adam_losses", shape: [5])
        self.file = file
    }

    /// Runs the batch forward and backward and five Adam steps, and compares everything with the fixture.
    ///
    /// The tolerances in float32: logits 1e-4, the first loss 1e-5, gradients ‖Δ‖ / ‖g‖ 1e-4, later losses 1e-4.
    ///
    /// In bfloat16 everything is compared as ‖Δ‖ / ‖expected‖, to 3e-2. Gradients can be more sensitive than that, where
    /// units of the feed-forward layer are close to switching, or through the recurrence: rounding the weights to
    /// bfloat16 at random, computing in float32, moves some by a tenth. What such roundings do is therefore measured
    /// first, and a gradient may be twice as far off as the worst of them.
    ///
    /// - Parameters:
    ///   - backend: what computes.
    ///   - narrow: whether its operands are bfloat16.
    public func verify(on backend: any Backend, narrow: Bool = false) throws -> [Difference] {
        let model = try model()
        let session = try backend.training(model, shape)
        var settings = AdamOptimizer.Settings()
        settings.gradientClip = gradientClip
        var optimizer = AdamOptimizer(settings)
        var sensitivity: [String: Double] = [:]
        if narrow {
            let exact = try CPUBackend().training(model, shape)
            sensitivity = try sensitivityToRounding(of: exact, model, batch, times: 16, seed: 1) {
                relative($0[$1.name], try gradient($1))
            }
        }

        var differences: [Difference] = []
        func add(_ name: String, _ values: [Float], _ expected: [Float], absolute: Double? = nil, moved: Double = 0) {
            let error = relative(values, expected)
            differences.append(
                narrow
                    ? Difference(name: name, error: error, tolerance: max(3e-2, 2 * moved))
                    : absolute.map { Difference(name: name, error: largest(values, expected), tolerance: $0) }
                        ?? Difference(name: name, error: error, tolerance: 1e-4))
        }
        for (number, expected) in try file.floats("adam_losses", shape: [5]).enumerated() {
            let sum = session.gradient(of: [batch], dropout: nil)
            let loss = Float(sum.loss / Double(sum.targets))
            if number == 0 {
                let logits = try file.floats("logits", shape: [steps, batchSize, configuration.vocabulary])
                add("logits", session.logits(inputs), logits, absolute: 1e-4)
                add("loss", [loss], try file.floats("loss", shape: [1]), absolute: 1e-5)
                let gradients = session.read(.gradient)
                for parameter in gradients.table.parameters {
                    add(
                        "grads.\(parameter.name)", gradients[parameter.name], try gradient(parameter),
                        moved: sensitivity[parameter.name] ?? 0)
                }
            }
            add("adam_losses[\(number)]", [loss], [expected], absolute: 1e-4)
            _ = optimizer.update(session, learningRate: learningRate)
        }
        return differences
    }

    /// The fixture's model.
    private func model() throws -> FeedbackModel {
        var parameters = Parameters(ParameterTable(configuration))
        for parameter in parameters.table.parameters {
            parameters[parameter.name] = try file.floats("weights.\(parameter.name)", shape: parameter.shape)
        }
        return FeedbackModel(parameters)
    }

    private var shape: BatchShape { BatchShape(steps: steps, batchSize: batchSize) }
    private var batch: Batch { Batch(steps: steps, rows: batchSize, inputs: inputs, targets: targets) }

    private func gradient(_ parameter: Parameter) throws -> [Float] {
        try file.floats("grads.\(parameter.name)", shape: parameter.shape)
    }

    /// How far one tensor is from PyTorch's.
    public struct Difference: Sendable {
        public let name: String
        public let error: Double
        public let tolerance: Double
        public var passes: Bool { error <= tolerance }
    }
}

/// How far each gradient is off at most, of so many times, where every weight is rounded to one of its two neighbours in
/// bfloat16, to each the likelier the nearer it is, and nothing else is.
func sensitivityToRounding(
    of session: any TrainingSession, _ model: FeedbackModel, _ batch: Batch, times: Int, seed: UInt64,
    distance: (_ gradients: Parameters, Parameter) throws -> Double
) rethrows -> [String: Double] {
    var random = RandomSource(seed: seed)
    var largest: [String: Double] = [:]
    for _ in 0..<times {
        var rounded = model.parameters
        rounded.values = rounded.values.map { weight in
            Float(bitPattern: (weight.bitPattern &+ UInt32(random.below(1 << 16))) & 0xffff_0000)
        }
        session.write(rounded)
        _ = session.gradient(of: [batch], dropout: nil)
        let gradients = session.read(.gradient)
        for parameter in gradients.table.parameters {
            largest[parameter.name] = max(largest[parameter.name] ?? 0, try distance(gradients, parameter))
        }
    }
    return largest
}

/// |a − b|; not a number counts as infinitely far.
private func distance(_ a: Float, _ b: Float) -> Double {
    let difference = abs(Double(a) - Double(b))
    return difference.isNaN ? .infinity : difference
}

/// max |a − b|.
private func largest(_ values: [Float], _ expected: [Float]) -> Double {
    zip(values, expected).reduce(0) { max($0, distance($1.0, $1.1)) }
}

/// ‖a − b‖ / ‖b‖; where b is zero, ‖a‖.
private func relative(_ values: [Float], _ expected: [Float]) -> Double {
    let error = zip(values, expected).reduce(0) { $0 + pow(distance($1.0, $1.1), 2) }.squareRoot()
    let norm = expected.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
    return norm > 0 ? error / norm : error
}
