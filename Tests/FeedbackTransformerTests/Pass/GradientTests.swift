import FeedbackEngine
import FeedbackTransformer
import Testing

@Suite struct GradientTests {
    /// The reference's gradient of every kind of parameter against central differences of its loss. With carried
    /// memories it is the second segment's loss, the memories of the first held fixed.
    @Test(
        arguments: Wiring.all + [
            Wiring(steps: 19, batch: 1, positions: 32), Wiring(keyValue: .perLayer, carry: 4, dropRate: 0.3),
            Wiring(norm: .layer, carry: 4, dropRate: 0.3),
        ])
    func referenceAgreesWithFiniteDifferences(wiring: Wiring) throws {
        let parameters = wiring.parameters(ReferenceExecutor())
        let batches = wiring.batches(2)
        let pass = wiring.pass(parameters) { ReferenceExecutor() }
        _ = pass.gradient(of: [batches[0]], dropout: wiring.dropout(0))
        let memory = pass.carriedMemory
        pass.carriedMemory = memory
        _ = pass.gradient(of: [batches[1]], dropout: wiring.dropout(1))
        let changed = wiring.pass(parameters) { ReferenceExecutor() }
        /// The loss of the second segment, with one number of the parameters moved.
        func loss(_ index: Int, _ delta: Double) -> Double {
            let number = parameters.all[index]
            parameters.all[index] = number + delta
            defer { parameters.all[index] = number }
            changed.parametersChanged()
            changed.carriedMemory = memory
            let dropout = wiring.dropout(1)
            let sum =
                dropout == nil
                ? changed.loss(of: batches[1]) : changed.gradient(of: [batches[1]], dropout: dropout)
            return sum.loss / Double(sum.targets)
        }
        var random = RandomSource(seed: 11)
        for parameter in parameters.table.parameters {
            // A few of each, the last rows among them: in position tables those are the nearest offsets.
            let some = Set(
                (0..<4).map { _ in random.below(parameter.count) } + [parameter.count - 1, max(0, parameter.count - 9)])
            for index in some.map({ parameter.offset + $0 }) {
                let step = 1e-5
                let difference = (loss(index, step) - loss(index, -step)) / (2 * step)
                let gradient = pass.gradient.all[index]
                #expect(
                    abs(difference - gradient) <= 1e-7 + 1e-5 * abs(difference),
                    "\(parameter.name)[\(index - parameter.offset)]: \(gradient), differences say \(difference)")
            }
        }
    }

    /// Sizes that fit no vector, more workers than rows, a single step, chunks that do not divide the steps.
    static let sizes: [Wiring] = [
        Wiring(), Wiring(steps: 1), Wiring(batch: 1), Wiring(steps: 37, batch: 5, dModel: 24, heads: 3, positions: 64),
        Wiring(steps: 19, batch: 2, layers: 3, dModel: 40, heads: 2, dFF: 33, vocabulary: 65, positions: 32),
        Wiring(steps: 20, batch: 4, dModel: 64, heads: 2, dFF: 96, positions: 64),
        Wiring(steps: 70, batch: 2, layers: 1, dModel: 80, heads: 1, dFF: 16, positions: 128),
        // More rows than one span of steps takes, and tiles that differ in their rows.
        Wiring(steps: 29, batch: 32),
        Wiring(steps: 3, batch: 67),
    ]

    /// Every wiring; those with normalised memories in the sizes that cut blocks, spans and tiles in other places. Without the
    /// optimizer, where the reference takes a hundred times as long, every wiring in two of its sizes, in turn.
    static let sizedWirings = Wiring.all.enumerated().flatMap { index, wiring in
        var own = wiring.norm == .none ? sizes : [sizes[0], sizes[1], sizes[4], sizes[7], sizes[8]]
        #if DEBUG
            own = [own[index % own.count], own[(index + own.count / 2) % own.count]]
        #endif
        return own.map { (wiring, $0) }
    }

    @Test(arguments: sizedWirings) func engineAgreesWithReference(wiring: Wiring, size: Wiring) throws {
        for precision in Precision.allCases where precision.isSupported {
            try expectAgreement(wiring, size, precision)
        }
    }

    private func expectAgreement(_ kind: Wiring, _ size: Wiring, _ precision: Precision) throws {
        var wiring = size
        (wiring.memory, wiring.keyValue) = (kind.memory, kind.keyValue)
        (wiring.norm, wiring.carry) = (kind.norm, kind.carry)
        if kind.window != nil { wiring.window = max(1, size.steps * 2 / 3) }
        let exact = wiring.parameters(ReferenceExecutor())
        let fast = ParameterStore(exact.table, executor: CPUExecutor())
        if precision == .bfloat16 {
            // Units firmly on or off: rounding must not switch one, which in a model this small is a large change.
            for l in 0..<wiring.layers {
                exact["transformer.layers.\(l).feed_forward.layer1.bias"] = (0..<wiring.dFF).map {
                    $0 % 3 == 0 ? -3 : 3
                }
            }
        }
        fast.host = exact.host
        exact.host = fast.host  // the same numbers, rounded to float32
        let reference = wiring.pass(exact) { ReferenceExecutor() }
        let engine = wiring.pass(fast, threads: 2) { CPUExecutor(precision) }
        let (lossTolerance, tolerance, floor) = precision == .float32 ? (1e-5, 1e-4, 1e-6) : (1e-2, 6e-2, 5e-3)
        for (index, batch) in wiring.batches(3).enumerated() {
            // The last batch with dropout.
            if index == 2 { wiring.dropRate = 0.25 }
            let dropout = wiring.dropout(index)
            let expected = reference.gradient(of: [batch], dropout: dropout)
            let sum = engine.gradient(of: [batch], dropout: dropout)
            #expect(abs(sum.loss - expected.loss) <= lossTolerance * abs(expected.loss))
            #expect(sum.targets == expected.targets)
            for parameter in exact.table.parameters {
                let gradient = engine.gradient[parameter.name]
                let exact = reference.gradient[parameter.name]
                let norm = exact.reduce(0) { $0 + $1 * $1 }.squareRoot()
                let error = zip(gradient, exact).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }.squareRoot()
                #expect(
                    error <= tolerance * norm + floor, "\(precision) \(parameter.name): \(error) of \(norm)")
            }
        }
    }

    /// A batch whose numbers overflow leaves nothing behind for the next one.
    @Test(arguments: Precision.allCases.filter(\.isSupported), MemoryRouting.allCases)
    func overflowIsForgotten(precision: Precision, memory: MemoryRouting) {
        let wiring = Wiring(memory: memory, steps: 21, batch: 2, positions: 32)
        let batch = wiring.batches(1)[0]
        let parameters = wiring.parameters(CPUExecutor())
        func gradient(_ pass: TrainingPass<CPUExecutor>) -> [Double] {
            pass.parametersChanged()
            _ = pass.gradient(of: [batch])
            return pass.gradient.all.values
        }
        let pass = wiring.pass(parameters) { CPUExecutor(precision) }
        let name = "transformer.value.linear.weight"
        let weight = parameters[name]
        parameters[name] = weight.map { _ in .infinity }
        #expect(gradient(pass).contains { !$0.isFinite })
        parameters[name] = weight
        let expected = gradient(wiring.pass(parameters) { CPUExecutor(precision) })
        #expect(gradient(pass) == expected && expected.allSatisfy(\.isFinite))
    }

    /// The gradient over several batches is that of one batch of all their rows, however many targets each has.
    @Test(arguments: [1, 2]) func severalBatchesAreOne(threads: Int) throws {
        let wiring = Wiring(steps: 4, batch: 2)
        var batches = wiring.batches(3)
        let some = batches[1].targets.enumerated().map { $0 < 6 ? -1 : $1 }
        batches[1] = Batch(steps: 4, rows: 2, inputs: batches[1].inputs, targets: some)
        let parameters = wiring.parameters(ReferenceExecutor())
        let parts = wiring.pass(parameters, threads: threads) { ReferenceExecutor() }
        var large = wiring
        large.batch = 6
        let whole = large.pass(parameters) { ReferenceExecutor() }
        func joined(_ path: KeyPath<Batch, [Int32]>) -> [Int32] {
            (0..<4).flatMap { t in batches.flatMap { $0[keyPath: path][2 * t..<2 * t + 2] } }
        }
        let sum = parts.gradient(of: batches)
        let expected = whole.gradient(
            of: [Batch(steps: 4, rows: 6, inputs: joined(\.inputs), targets: joined(\.targets))])
        #expect(sum.targets == expected.targets && sum.correct == expected.correct)
        #expect(abs(sum.loss - expected.loss) < 1e-12)
        let difference = zip(parts.gradient.all.values, whole.gradient.all.values).map { abs($0 - $1) }.max()!
        #expect(difference < 1e-14 && parts.gradientNorm() > 1e-3)
    }
}
