import FeedbackTransformer
import Testing

@testable import FeedbackEngine

/// Sizes of one attention: rows, heads, size of a head, slots written before the block, steps of the block, window.
struct AttentionSize: CustomTestStringConvertible {
    var rows = 2, heads = 2, headSize = 8, before = 5, steps = 1, window = 100
    var dropRate = 0.0
    var dropout: Dropout? { dropRate > 0 ? Dropout(rate: dropRate, seed: 5) : nil }
    var slots: Int { before + steps }
    var width: Int { heads * headSize }
    var reach: Int { min(window, slots) }
    var visibility: Visibility { Visibility(before: before, window: reach) }
    var testDescription: String {
        "B \(rows) H \(heads) K \(headSize) before \(before) steps \(steps) window \(window) dropout \(dropRate)"
    }
}

/// One attention in one executor, from given numbers to every result.
private struct Run {
    var context, probabilities, dq, dKeysValues, dEmbeddings, dBias, dQueryBias: [Double]

    /// The parameters' numbers.
    struct Inputs {
        var q, keysValues, embeddings, bias, queryBias: [Double]
    }

    init(_ executor: some Executor, _ size: AttentionSize, _ inputs: Inputs) {
        let (n, D) = (size.steps * size.rows, size.width)
        let scale = 0.5
        let cache = executor.makeCache(
            rows: size.rows, slots: size.slots, heads: size.heads, headSize: size.headSize, training: true)
        let keysValues = executor.state(size.slots * size.rows, 2 * D)
        keysValues.all.values = inputs.keysValues
        // In two portions, as a pass appends them.
        let first = size.before * size.rows
        executor.append(keysValues.rows(0..<first), to: cache, slot: 0)
        executor.append(keysValues.rows(first..<keysValues.all.rows), to: cache, slot: size.before)

        let positions = executor.makePositions(heads: size.heads, headSize: size.headSize, reach: size.reach)
        let embeddings = executor.state(size.reach, D)
        let bias = executor.state(size.reach, size.heads)
        let queryBias = executor.state(1, D)
        embeddings.all.values = inputs.embeddings
        bias.all.values = inputs.bias
        queryBias.all.values = inputs.queryBias
        executor.pack(positions, embeddings: embeddings.all, bias: bias.all, queryBias: queryBias.all, scale: scale)

        // q̃ = scale (q + u), as the query's linear map makes it.
        let q = executor.operand(n, D)
        let context = executor.operand(n, D)
        q.all.values = inputs.q.enumerated().map { scale * ($1 + inputs.queryBias[$0 % D]) }
        let columns = executor.scoreColumns(slots: size.slots)
        let p = executor.operand(n * size.heads, columns)
        let ds = executor.operand(n * size.heads, columns)
        executor.attend(
            q.all, cache, positions, size.visibility, probabilities: p.all, dropout: size.dropout, into: context.all)
        self.context = context.all.values

        probabilities = (0..<n * size.heads).flatMap { row in
            (0..<size.slots).map { p.all[row * columns + executor.scoreMargin + $0] }
        }

        let dContext = executor.operand(n, D)
        let dq = executor.operand(n, D)
        dContext.all.values = projection(n * D)
        executor.attendBackward(
            dContext.all, context: context.all, probabilities: p.all, cache, positions, size.visibility,
            dropout: size.dropout, scoreGradients: ds.all, into: dq.all)
        self.dq = dq.all.values.map { $0 * scale }

        executor.clearGradients(cache)
        // In portions again: some steps and slots, then the others.
        for steps in [0..<size.steps / 2, size.steps / 2..<size.steps] {
            for slots in [0..<size.slots / 3, size.slots / 3..<size.slots] {
                let gradients = AttentionGradients(
                    scores: ds.all, probabilities: p.all, query: q.all, context: dContext.all)
                executor.gather(
                    [gradients], steps: steps, slots: slots, size.visibility, accumulatingInto: cache)
            }
        }
        let dKeysValues = executor.operand(size.slots * size.rows, 2 * D)
        executor.keyValueGradients(cache, slots: 0..<size.slots, into: dKeysValues.all)
        self.dKeysValues = dKeysValues.all.values

        let sums = executor.makePositionGradients(heads: size.heads, headSize: size.headSize, reach: size.reach)
        executor.gather(scoreGradients: ds.all, q: q.all, rows: size.rows, size.visibility, accumulatingInto: sums)
        let dEmbeddings = executor.state(size.reach, D)
        let dBias = executor.state(size.reach, size.heads)
        let dQueryBias = executor.state(1, D)
        executor.flush(sums, embeddings: dEmbeddings.all, bias: dBias.all)
        for (i, value) in self.dq.enumerated() { dQueryBias.all[i % D] += value }
        executor.unfoldPositions(
            dEmbeddings.all, dBias: dBias.all, dQueryBias: dQueryBias.all, embeddings: embeddings.all,
            queryBias: queryBias.all, scale: scale)
        self.dEmbeddings = dEmbeddings.all.values
        self.dBias = dBias.all.values
        self.dQueryBias = dQueryBias.all.values
    }

    static func inputs(_ size: AttentionSize, _ pair: inout Pair) -> Inputs {
        Inputs(
            q: pair.numbers(size.steps * size.rows * size.width),
            keysValues: pair.numbers(size.slots * size.rows * 2 * size.width),
            embeddings: pair.numbers(size.reach * size.width), bias: pair.numbers(size.reach * size.heads),
            queryBias: pair.numbers(size.width))
    }
}

@Suite struct AttentionTests {
    static let sizes = [
        AttentionSize(rows: 1, heads: 1, headSize: 1, before: 1), AttentionSize(),
        AttentionSize(headSize: 16, before: 16),
        AttentionSize(rows: 3, heads: 3, headSize: 5, before: 33), AttentionSize(headSize: 32, before: 64, window: 20),
        AttentionSize(heads: 1, headSize: 64, before: 130),
        AttentionSize(heads: 1, headSize: 80, before: 47, window: 17),
        AttentionSize(before: 1, steps: 20), AttentionSize(headSize: 20, before: 7, steps: 33, window: 9),
        AttentionSize(rows: 1, headSize: 48, before: 100, steps: 70, window: 64),
        AttentionSize(before: 30, steps: 3, window: 1), AttentionSize(headSize: 20, before: 40, dropRate: 0.3),
        AttentionSize(rows: 3, headSize: 16, before: 7, steps: 33, window: 20, dropRate: 0.5),
    ]

    @Test(arguments: sizes, Precision.supported) func engineAgreesWithReference(
        size: AttentionSize, precision: Precision
    ) {
        var pair = Pair(precision)
        let inputs = Run.inputs(size, &pair)
        let fast = Run(pair.fast, size, inputs)
        let exact = Run(pair.exact, size, inputs)
        expectEqual(fast.probabilities, exact.probabilities, tolerance: precision.tolerance(1e-5, bfloat16: 5e-2), "p")
        expectEqual(fast.context, exact.context, tolerance: precision.tolerance(1e-5, bfloat16: 5e-2), "context")
        expectEqual(fast.dq, exact.dq, tolerance: precision.tolerance(2e-5, bfloat16: 5e-2), "dq")
        expectEqual(
            fast.dKeysValues, exact.dKeysValues, tolerance: precision.tolerance(2e-5, bfloat16: 5e-2), "dk and dv")
        expectEqual(fast.dEmbeddings, exact.dEmbeddings, tolerance: precision.tolerance(2e-5, bfloat16: 5e-2), "dU")
        expectEqual(fast.dBias, exact.dBias, tolerance: precision.tolerance(2e-5, bfloat16: 5e-2), "dS")
        expectEqual(fast.dQueryBias, exact.dQueryBias, tolerance: precision.tolerance(2e-5, bfloat16: 5e-2), "du")
    }

    @Test(arguments: [
        AttentionSize(rows: 1, headSize: 2, before: 2, steps: 3),
        AttentionSize(rows: 2, heads: 1, headSize: 3, before: 4, steps: 4, window: 3),
        AttentionSize(rows: 2, headSize: 3, before: 6, steps: 3, dropRate: 0.4),
    ])
    func referenceAgreesWithFiniteDifferences(size: AttentionSize) {
        var pair = Pair()
        let inputs = Run.inputs(size, &pair)
        let run = Run(pair.exact, size, inputs)
        func differences(_ path: WritableKeyPath<Run.Inputs, [Double]>) -> [Double] {
            inputs[keyPath: path].indices.map { index in
                var (above, below) = (inputs, inputs)
                above[keyPath: path][index] += 1e-5
                below[keyPath: path][index] -= 1e-5
                return (project(Run(pair.exact, size, above).context) - project(Run(pair.exact, size, below).context))
                    / 2e-5
            }
        }
        expectEqual(run.dq, differences(\.q), tolerance: 1e-7, "dq")
        expectEqual(run.dKeysValues, differences(\.keysValues), tolerance: 1e-7, "dk and dv")
        expectEqual(run.dEmbeddings, differences(\.embeddings), tolerance: 1e-7, "dU")
        expectEqual(run.dBias, differences(\.bias), tolerance: 1e-7, "dS")
        expectEqual(run.dQueryBias, differences(\.queryBias), tolerance: 1e-7, "du")
    }

    /// Scores that differ by thousands: the largest is subtracted first.
    @Test func hugeScoresStayFinite() {
        var pair = Pair()
        let size = AttentionSize(before: 20)
        var inputs = Run.inputs(size, &pair)
        inputs.bias = inputs.bias.map { $0 * 3000 }
        let fast = Run(pair.fast, size, inputs)
        let exact = Run(pair.exact, size, inputs)
        expectEqual(fast.context, exact.context, tolerance: 1e-4)
        #expect(fast.dq.allSatisfy { $0.isFinite })
    }
}
