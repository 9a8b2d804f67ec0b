import FeedbackTransformer
import Testing

@testable import FeedbackEngine

@Suite struct EmbeddingTests {
    @Test func forwardPicksRowsAndBackwardAddsToThem() {
        for executor in [CPUExecutor(), ReferenceExecutor()] as [any Executor] {
            let table = executor.state(3, 2)
            let x = executor.state(4, 2)
            let dTable = executor.state(3, 2)
            table.all.values = [1, 2, 3, 4, 5, 6]
            executor.embed([2, 0, 2, 1], table: table.all, into: x.all)
            #expect(x.all.values == [5, 6, 1, 2, 5, 6, 3, 4])
            executor.embedBackward(x.all, tokens: [2, 0, 2, 1], accumulatingInto: dTable.all)
            #expect(dTable.all.values == [1, 2, 3, 4, 10, 12])
        }
    }

    @Test func tokenOutsideTheTableTraps() async throws {
        await #expect(processExitsWith: .failure) {
            let executor = CPUExecutor()
            let (table, x) = (executor.state(3, 2), executor.state(1, 2))
            executor.embed([3], table: table.all, into: x.all)
        }
    }
}

@Suite struct FeedForwardTests {
    @Test(arguments: [(1, 3, 5), (6, 32, 64), (17, 40, 33)]) func engineAgreesWithReference(
        rows: Int, width: Int, hidden: Int
    ) {
        var pair = Pair()
        let (w1, w2) = (pair.state(hidden, width, scale: 0.3), pair.state(width, hidden, scale: 0.3))
        let (b1, b2) = (pair.state(1, hidden), pair.state(1, width))
        let (x, dx) = (pair.state(rows, width), pair.state(rows, width))
        func run(_ executor: some Executor, _ side: KeyPath<(fast: Buffer<State>, exact: Buffer<State>), Buffer<State>>)
            -> [Double]
        {
            let inner = executor.makeLinear(inputs: width, outputs: hidden)
            let outer = executor.makeLinear(inputs: hidden, outputs: width)
            executor.pack(
                inner, weight: w1[keyPath: side].all, bias: b1[keyPath: side].all, norm: nil, scale: 1)
            executor.pack(
                outer, weight: w2[keyPath: side].all, bias: b2[keyPath: side].all, norm: nil, scale: 1)
            let normalized = executor.operand(rows, width)
            let r = executor.state(rows, 1)
            let h = executor.operand(rows, hidden)
            let stash = FeedForwardStash(normalized: normalized.all, inverseDeviation: r.all, hidden: h.all)
            let output = executor.operand(rows, width)
            let dHidden = executor.operand(rows, hidden)
            let deltas = FeedForwardDeltas(output: output.all, hidden: dHidden.all)
            let dNormalized = executor.state(rows, width)
            executor.feedForward(x[keyPath: side].all, inner: inner, outer: outer, keeping: stash)
            executor.feedForwardBackward(
                dx[keyPath: side].all, inner: inner, outer: outer, stash, keeping: deltas,
                dNormalized: dNormalized.all)
            return x[keyPath: side].all.values + dx[keyPath: side].all.values + dHidden.all.values
        }
        expectEqual(run(pair.fast, \.fast), run(pair.exact, \.exact), tolerance: 1e-5)
    }

    @Test func rectifierBackwardStopsWhereNothingPassed() {
        for executor in [CPUExecutor(), ReferenceExecutor()] as [any Executor] {
            let h = executor.operand(1, 4)
            let dh = executor.operand(1, 4)
            h.all.values = [0, 2, 0, 1]
            dh.all.values = [5, 6, 7, 8]
            executor.rectifierBackward(h.all, dh.all)
            #expect(dh.all.values == [0, 6, 0, 8])
        }
    }
}

@Suite struct MemorySumTests {
    @Test func engineAgreesWithReference() {
        var pair = Pair()
        let x = (0..<4).map { _ in pair.state(5, 19) }
        let weights = [0.1, 0.2, 0.3, 0.4]
        let (m, dm, dx) = (pair.state(5, 19), pair.state(5, 19), pair.state(5, 19))
        pair.fast.weightedSum(x.map(\.fast.all), weights: weights, into: m.fast.all)
        pair.exact.weightedSum(x.map(\.exact.all), weights: weights, into: m.exact.all)
        expectEqual(m.fast.all.values, m.exact.all.values)
        let fast = pair.fast.weightedSumBackward(
            dm.fast.all, x: x[2].fast.all, weight: 0.3, accumulatingInto: dx.fast.all)
        let exact = pair.exact.weightedSumBackward(
            dm.exact.all, x: x[2].exact.all, weight: 0.3, accumulatingInto: dx.exact.all)
        #expect(abs(fast - exact) < 1e-5 * (1 + abs(exact)))
        expectEqual(dx.fast.all.values, dx.exact.all.values)
    }

    @Test func referenceAgreesWithFiniteDifferences() {
        var pair = Pair()
        let executor = pair.exact
        let x = (0..<3).map { _ in pair.state(2, 3).exact }
        let w = pair.state(1, 3).exact
        let configuration = ModelConfiguration(layers: 2, dModel: 3, heads: 1, dFF: 1, vocabulary: 1)
        let m = executor.state(2, 3)
        let dm = executor.state(2, 3)
        func loss() -> Double {
            executor.weightedSum(x.map(\.all), weights: configuration.memoryWeights(w.all.values), into: m.all)
            return project(m.all.values)
        }
        dm.all.values = projection(6)
        let a = configuration.memoryWeights(w.all.values)
        #expect(abs(a.reduce(0, +) - 1) < 1e-12)
        var da: [Double] = []
        for (l, layer) in x.enumerated() {
            let dx = executor.state(2, 3)
            da.append(executor.weightedSumBackward(dm.all, x: layer.all, weight: a[l], accumulatingInto: dx.all))
            expectEqual(dx.all.values, derivatives(of: layer.all, loss), tolerance: 1e-7)
        }
        expectEqual(layerWeightsBackward(da, weights: a), derivatives(of: w.all, loss), tolerance: 1e-7)
    }
}

@Suite struct CrossEntropyTests {
    @Test(arguments: [1, 2, 16, 17, 65, 300]) func engineAgreesWithReference(vocabulary: Int) {
        var pair = Pair()
        let z = pair.state(7, vocabulary, scale: 4)
        let dz = pair.state(7, vocabulary)
        let targets = (0..<7).map { Int32($0 == 3 ? -1 : ($0 * 31) % vocabulary) }
        let fast = pair.fast.crossEntropy(z.fast.all, targets: targets, scale: 0.25, into: dz.fast.all)
        let exact = pair.exact.crossEntropy(z.exact.all, targets: targets, scale: 0.25, into: dz.exact.all)
        #expect(abs(fast.loss - exact.loss) <= 1e-5 * (1 + exact.loss))
        #expect(fast.targets == 6 && exact.targets == 6)
        #expect(fast.correct == exact.correct)
        expectEqual(dz.fast.all.values, dz.exact.all.values)
        // In place, as the training pass calls it.
        let inPlace = pair.fast.crossEntropy(z.fast.all, targets: targets, scale: 0.25, into: z.fast.all)
        #expect(inPlace == fast)
        #expect(z.fast.all.values == dz.fast.all.values)
    }

    /// Logits far beyond what exp can take.
    @Test func hugeLogitsStayFinite() {
        for executor in [CPUExecutor(), ReferenceExecutor()] as [any Executor] {
            let z = executor.state(2, 3)
            let dz = executor.state(2, 3)
            z.all.values = [1e4, 0, -1e4, -1e30, 1e30, 0]
            let sum = executor.crossEntropy(z.all, targets: [0, 1], scale: 1, into: dz.all)
            #expect(sum.loss == 0)
            #expect(sum.correct == 2)
            #expect(dz.all.values.allSatisfy { $0 == 0 })
        }
    }

    @Test func referenceAgreesWithFiniteDifferences() {
        var pair = Pair()
        let executor = pair.exact
        let z = pair.state(4, 5).exact
        let dz = executor.state(4, 5)
        let targets: [Int32] = [0, 4, -1, 2]
        _ = executor.crossEntropy(z.all, targets: targets, scale: 1.0 / 3, into: dz.all)
        let unused = executor.state(4, 5)
        let expected = derivatives(of: z.all) {
            executor.crossEntropy(z.all, targets: targets, scale: 1, into: unused.all).loss / 3
        }
        expectEqual(dz.all.values, expected, tolerance: 1e-7)
    }
}

@Suite struct OptimizerTests {
    @Test func engineAgreesWithReferenceOverManySteps() {
        var pair = Pair()
        let (w, m, v) = (
            pair.state(1, 37), (fast: pair.fast.state(1, 37), exact: pair.exact.state(1, 37)),
            (fast: pair.fast.state(1, 37), exact: pair.exact.state(1, 37))
        )
        for number in 1...20 {
            let g = pair.state(1, 37)
            var step = AdamStep(learningRate: 0.01, number: number)
            step.beta2 = 0.99
            step.gradientScale = 0.5
            pair.fast.adam(w.fast.all, gradient: g.fast.all, m: m.fast.all, v: v.fast.all, step: step, decay: 0.1)
            pair.exact.adam(w.exact.all, gradient: g.exact.all, m: m.exact.all, v: v.exact.all, step: step, decay: 0.1)
        }
        expectEqual(w.fast.all.values, w.exact.all.values)
        expectEqual(v.fast.all.values, v.exact.all.values)
    }

    /// The first step of Adam moves every parameter by the learning rate against the sign of its gradient.
    @Test func firstStepIsTheLearningRate() {
        let executor = ReferenceExecutor()
        let w = executor.state(1, 3)
        let g = executor.state(1, 3)
        let m = executor.state(1, 3)
        let v = executor.state(1, 3)
        g.all.values = [3, -0.02, 0]
        executor.adam(
            w.all, gradient: g.all, m: m.all, v: v.all, step: AdamStep(learningRate: 0.1, number: 1), decay: 0)
        expectEqual(w.all.values, [-0.1, 0.1, 0])
    }

    @Test func aParameterWithoutGradientStays() {
        let executor = CPUExecutor()
        let w = executor.state(1, 20)
        let zero = executor.state(1, 20)
        let m = executor.state(1, 20)
        let v = executor.state(1, 20)
        w.all.values = (0..<20).map { Double($0) / 7 }
        let before = w.all.values
        executor.adam(
            w.all, gradient: zero.all, m: m.all, v: v.all, step: AdamStep(learningRate: 1, number: 1), decay: 0)
        #expect(w.all.values == before)
    }

    @Test func sumOfSquares() {
        var pair = Pair()
        let x = pair.state(1, 10_007)
        let (fast, exact) = (pair.fast.sumOfSquares(x.fast.all), pair.exact.sumOfSquares(x.exact.all))
        #expect(abs(fast - exact) < 1e-5 * exact)
    }
}
