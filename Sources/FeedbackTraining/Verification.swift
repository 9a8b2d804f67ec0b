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
        func text(_ key: String) throws -> String {
            guard let value = file.metadata[key] else {
                throw ConfigurationError("\(url.path) is not a fixture: its metadata lacks \(key)")
            }
            return value
        }
        func number<N: LosslessStringConvertible>(_ key: String, as type: N.Type = N.self) throws -> N {
            guard let value = N(try text(key)) else {
                throw ConfigurationError("\(url.path) is not a fixture: its \(key) is \(try text(key))")
            }
            return value
        }
        func choice<C: RawRepresentable<String>>(_ key: String, as type: C.Type = C.self) throws -> C {
            let name = try text(key).replacingOccurrences(of: "_", with: "-")
            guard let value = C(rawValue: name) else {
                throw ConfigurationError("\(url.path) has the unknown \(key) \(name)")
            }
            return value
        }
        guard try text("format") == "labml" else {
            throw ConfigurationError("\(url.path) has the format \(try text("format")); verify needs labml")
        }
        configuration = ModelConfiguration(
            memory: try choice("memory"), keyValue: try choice("key_value"), layers: try number("layers"),
            dModel: try number("d_model"), heads: try number("heads"), dFF: try number("d_ff"),
            vocabulary: try number("vocab"), positions: try number("positions"))
        try configuration.validate()
        learningRate = try number("adam_lr")
        gradientClip = try number("grad_clip")
        inputs = try file.integers("inputs")
        targets = try file.integers("targets")
        guard let shape = file.entries["inputs"]?.shape, shape.count == 2, shape.allSatisfy({ $0 > 0 }),
            targets.count == inputs.count
        else { throw ConfigurationError("\(url.path): inputs and targets must both be [steps, batch]") }
        for token in inputs + targets where token < 0 || token >= configuration.vocabulary {
            throw ConfigurationError("\(url.path): the token \(token) is outside the vocabulary")
        }
        (steps, batchSize) = (shape[0], shape[1])
        self.file = file
    }

    /// How far one tensor is from PyTorch's.
    public struct Difference: Sendable {
        public let name: String
        public let error: Double
        public let tolerance: Double
        public var passes: Bool { error <= tolerance }
    }

    /// Runs the batch forward and backward and five Adam steps, and compares everything with the fixture.
    public func verify(threads: Int = 2, makeExecutor: () -> any Executor = { CPUExecutor() }) throws -> [Difference] {
        let table = ParameterTable(configuration)
        let parameters = ParameterStore(table, executor: makeExecutor())
        for parameter in table.parameters {
            let values = try file.floats("weights.\(parameter.name)", shape: parameter.shape)
            parameters[parameter.name] = values.map(Double.init)
        }
        let pass = TrainingPass(
            parameters, steps: steps, batchSize: batchSize, threads: threads, makeExecutor: makeExecutor)
        pass.parametersChanged()
        var settings = AdamOptimizer.Settings()
        settings.gradientClip = gradientClip
        let optimizer = AdamOptimizer(table, settings: settings, executor: makeExecutor())

        var differences: [Difference] = []
        let expectedLosses = try file.floats("adam_losses")
        for (number, expected) in expectedLosses.enumerated() {
            let sum = pass.run(inputs: inputs, targets: targets)
            let loss = sum.loss / Double(sum.targets)
            if number == 0 {
                let logits = try file.floats("logits", shape: [steps, batchSize, configuration.vocabulary])
                differences.append(
                    Difference(name: "logits", error: largest(pass.logits(inputs: inputs), logits), tolerance: 1e-4))
                let expected = Double(try file.floats("loss", shape: [1])[0])
                differences.append(Difference(name: "loss", error: distance(loss, expected), tolerance: 1e-5))
                for parameter in table.parameters {
                    let gradient = try file.floats("grads.\(parameter.name)", shape: parameter.shape)
                    differences.append(
                        Difference(
                            name: "grads.\(parameter.name)",
                            error: relative(pass.gradient[parameter.name], gradient), tolerance: 1e-4))
                }
            }
            differences.append(
                Difference(name: "adam_losses[\(number)]", error: distance(loss, Double(expected)), tolerance: 1e-4))
            _ = optimizer.update(pass, learningRate: learningRate)
        }
        return differences
    }
}

/// |a − b|; not a number counts as infinitely far.
private func distance(_ a: Double, _ b: Double) -> Double {
    let difference = abs(a - b)
    return difference.isNaN ? .infinity : difference
}

/// max |a − b|.
private func largest(_ values: [Double], _ expected: [Float]) -> Double {
    zip(values, expected).reduce(0) { max($0, distance($1.0, Double($1.1))) }
}

/// ‖a − b‖ / ‖b‖; where b is zero, ‖a‖.
private func relative(_ values: [Double], _ expected: [Float]) -> Double {
    let error = zip(values, expected).reduce(0) { $0 + pow(distance($1.0, Double($1.1)), 2) }.squareRoot()
    let norm = expected.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
    return norm > 0 ? error / norm : error
}
