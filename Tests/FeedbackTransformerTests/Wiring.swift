import FeedbackEngine
import FeedbackTransformer
import Testing

/// One way to wire and size a model and its segment.
struct Wiring: CustomTestStringConvertible {
    var memory = MemoryRouting.feedback
    var keyValue = KeyValueSharing.shared
    var norm = MemoryNorm.none
    var window: Int?
    var carry = 0
    var steps = 5
    var batch = 3
    var layers = 2
    var dModel = 6
    var heads = 2
    var dFF = 7
    var vocabulary = 5
    var positions = 16
    var dropRate = 0.0

    var configuration: ModelConfiguration {
        ModelConfiguration(
            memory: memory, keyValue: keyValue, memoryNorm: norm, layers: layers, dModel: dModel, heads: heads,
            dFF: dFF, vocabulary: vocabulary, positions: positions, memoryWindow: window)
    }
    func dropout(_ batch: Int) -> Dropout? {
        dropRate > 0 ? Dropout(rate: dropRate, seed: 9).part(batch) : nil
    }
    var testDescription: String {
        "\(memory.rawValue) \(keyValue.rawValue) norm \(norm.rawValue) window \(window ?? 0) carry \(carry) T \(steps) B \(batch) D \(dModel)/\(heads) dropout \(dropRate)"
    }

    /// Parameters with nothing left at zero or one, so that every term of every equation counts; small enough that the
    /// recurrence does not amplify rounding errors.
    func parameters(_ executor: some Executor) -> ParameterStore {
        let store = ParameterStore(ParameterTable(configuration), executor: executor)
        store.host = Parameters(store.table, seed: 7)
        var random = RandomSource(seed: 7)
        for index in 0..<store.all.count { store.all[index] += 0.3 / Double(dModel).squareRoot() * random.normal() }
        return store
    }

    /// Segments of random tokens, one after the other.
    func batches(_ count: Int) -> [Batch] {
        var random = RandomSource(seed: 3)
        func tokens() -> [Int32] { (0..<steps * batch).map { _ in Int32(random.below(vocabulary)) } }
        return (0..<count).map { _ in
            Batch(
                steps: steps, rows: batch, inputs: tokens(),
                targets: tokens().enumerated().map { $0 % 7 == 5 ? -1 : $1 })
        }
    }

    /// A model in float32 with such parameters.
    func model() -> FeedbackModel { FeedbackModel(parameters(CPUExecutor()).host) }

    var shape: BatchShape { BatchShape(steps: steps, batchSize: batch, carry: carry) }

    func pass<E: Executor>(_ parameters: ParameterStore, threads: Int = 1, _ make: @escaping () -> E) -> TrainingPass<E>
    {
        let pass = TrainingPass(parameters, shape, threads: threads, makeExecutor: make)
        pass.parametersChanged()
        return pass
    }

    static let all: [Wiring] = MemoryRouting.allCases.flatMap { memory in
        KeyValueSharing.allCases.flatMap { keyValue in
            MemoryNorm.allCases.flatMap { norm in
                [nil, 3].flatMap { window in
                    [0, 4].map { Wiring(memory: memory, keyValue: keyValue, norm: norm, window: window, carry: $0) }
                }
            }
        }
    }
}
