import FeedbackTransformer

/// Computes in plain Swift and double precision, on one thread: the oracle that other backends are held to. What the host
/// reads is rounded to float32.
public struct ReferenceBackend: Backend {
    public init() {}

    public func training(_ model: FeedbackModel, _ shape: BatchShape) -> any TrainingSession {
        pass(model, shape, training: true)
    }
    public func evaluation(_ model: FeedbackModel, _ shape: BatchShape) -> any EvaluationSession {
        pass(model, shape, training: false)
    }

    private func pass(
        _ model: FeedbackModel, _ shape: BatchShape, training: Bool
    ) -> TrainingPass<ReferenceExecutor> {
        let parameters = ParameterStore(model.parameters.table, executor: ReferenceExecutor())
        let pass = TrainingPass(parameters, shape, threads: 1, training: training) { ReferenceExecutor() }
        pass.write(model.parameters)
        return pass
    }

    public func decoding(_ model: FeedbackModel, memoryWindow: Int) -> any DecodingSession {
        PlainDecoder(model, memoryWindow: memoryWindow)
    }

    public func footprint(_ model: ModelConfiguration, _ shape: BatchShape) -> Double {
        2 * CPUBackend().footprint(model, shape)
    }
    public var memoryCapacity: Double { CPUBackend().memoryCapacity }
}

/// Decodes with `PlainModel`.
private final class PlainDecoder: DecodingSession {
    private let start: PlainModel

    private final class Sequence: DecodingSequence {
        var model: PlainModel
        var length = 0
        init(_ model: PlainModel) { self.model = model }
    }

    init(_ model: FeedbackModel, memoryWindow: Int) { start = PlainModel(model, memoryWindow: memoryWindow) }

    func makeSequence() -> any DecodingSequence { Sequence(start) }

    func step(_ sequences: [any DecodingSequence], tokens: [Int32]) -> [[Float]] {
        zip(sequences, tokens).map { sequence, token in
            guard let sequence = sequence as? Sequence else { preconditionFailure("a sequence of another backend") }
            sequence.length += 1
            return sequence.model.step(token).map(Float.init)
        }
    }
}
