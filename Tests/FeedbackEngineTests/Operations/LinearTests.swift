import FeedbackTransformer
import Testing

@testable import FeedbackEngine

@Suite struct LinearTests {
    /// Rows, inputs, outputs, length of the bias.
    static let sizes = [
        (1, 1, 1, 1), (5, 300, 512, 512), (3, 6, 10, 10), (16, 128, 128, 0), (6, 33, 65, 20), (37, 100, 17, 17),
        (64, 40, 96, 48), (12, 64, 100, 100), (103, 70, 40, 40),
    ]

    /// Weight, bias, gain and shift of both executors, packed.
    private struct Map {
        let fast: CPULinear, exact: ReferenceLinear
        let weight, bias, gain, shift: (fast: Buffer<State>, exact: Buffer<State>)

        init(_ pair: inout Pair, inputs: Int, outputs: Int, bias count: Int, scale: Double) {
            fast = pair.fast.makeLinear(inputs: inputs, outputs: outputs)
            exact = pair.exact.makeLinear(inputs: inputs, outputs: outputs)
            weight = pair.state(outputs, inputs)
            bias = pair.state(1, count)
            gain = pair.state(1, inputs)
            shift = pair.state(1, inputs)
            pack(pair.fast, fast, \.fast, scale)
            pack(pair.exact, exact, \.exact, scale)
        }

        typealias Side = KeyPath<(fast: Buffer<State>, exact: Buffer<State>), Buffer<State>>

        func norm(_ side: Side) -> NormParameters {
            NormParameters(gain: gain[keyPath: side].all, shift: shift[keyPath: side].all)
        }
        func pack<E: Executor>(_ executor: E, _ packed: E.Linear, _ side: Side, _ scale: Double) {
            let b = bias[keyPath: side].all
            executor.pack(
                packed, weight: weight[keyPath: side].all, bias: b.count > 0 ? b : nil, norm: norm(side), scale: scale)
        }
    }

    /// Everyone who can compute products on this CPU, in every precision.
    static let ways = Precision.supported.flatMap { precision in
        CPUExecutor.Products.allCases.filter { $0.isSupported(precision) }.map { (precision, $0) }
    }

    @Test(arguments: sizes, ways) func engineAgreesWithReference(
        size: (rows: Int, inputs: Int, outputs: Int, bias: Int),
        way: (precision: Precision, products: CPUExecutor.Products)
    ) {
        let (rows, inputs, outputs, bias) = size
        let precision = way.precision
        var pair = Pair(precision, products: way.products)
        let map = Map(&pair, inputs: inputs, outputs: outputs, bias: bias, scale: 0.5)
        let x = pair.operand(rows, inputs)
        let dy = pair.operand(rows, outputs)

        let y = pair.operand(rows, outputs)
        let z = pair.state(rows, outputs)
        let sum = pair.state(rows, outputs)
        let start = sum.exact.all.values
        for rectified in [true, false] {
            pair.fast.linear(x.fast.all, map.fast, into: y.fast.all, rectified: rectified)
            pair.exact.linear(x.exact.all, map.exact, into: y.exact.all, rectified: rectified)
            expectEqual(y.fast.all.values, y.exact.all.values, tolerance: precision.tolerance(2e-6))
        }
        pair.fast.linear(x.fast.all, map.fast, into: z.fast.all)
        pair.fast.linear(x.fast.all, map.fast, accumulatingInto: sum.fast.all)
        expectEqual(z.fast.all.values, y.exact.all.values, tolerance: precision.tolerance(2e-6))
        expectEqual(sum.fast.all.values, zip(y.exact.all.values, start).map(+), tolerance: precision.tolerance(2e-6))

        let dx = pair.operand(rows, inputs)
        let dz = pair.state(rows, inputs)
        let more = pair.state(rows, inputs)
        let before = more.exact.all.values
        pair.exact.linearBackward(dy.exact.all, map.exact, into: dx.exact.all)
        pair.fast.linearBackward(dy.fast.all, map.fast, into: dx.fast.all)
        pair.fast.linearBackward(dy.fast.all, map.fast, into: dz.fast.all)
        pair.fast.linearBackward(dy.fast.all, map.fast, accumulatingInto: more.fast.all)
        expectEqual(dx.fast.all.values, dx.exact.all.values, tolerance: precision.tolerance(2e-6))
        expectEqual(dz.fast.all.values, dx.exact.all.values, tolerance: precision.tolerance(2e-6))
        expectEqual(more.fast.all.values, zip(dx.exact.all.values, before).map(+), tolerance: precision.tolerance(2e-6))

        let dw = pair.state(outputs, inputs)
        let db = pair.state(1, outputs)
        let dNorm = (pair.state(1, inputs), pair.state(1, inputs))
        pair.fast.linearGradients(dy.fast.all, x.fast.all, map.fast, accumulatingInto: dw.fast.all, dBias: db.fast.all)
        pair.exact.linearGradients(
            dy.exact.all, x.exact.all, map.exact, accumulatingInto: dw.exact.all, dBias: db.exact.all)
        expectEqual(dw.fast.all.values, dw.exact.all.values, tolerance: precision.tolerance(2e-6))
        expectEqual(db.fast.all.values, db.exact.all.values, tolerance: precision.tolerance(2e-6))
        pair.fast.unfold(
            dw.fast.all, dBias: db.fast.all, weight: map.weight.fast.all, norm: map.norm(\.fast), scale: 0.5,
            accumulatingInto: NormParameters(gain: dNorm.0.fast.all, shift: dNorm.1.fast.all))
        pair.exact.unfold(
            dw.exact.all, dBias: db.exact.all, weight: map.weight.exact.all, norm: map.norm(\.exact), scale: 0.5,
            accumulatingInto: NormParameters(gain: dNorm.0.exact.all, shift: dNorm.1.exact.all))
        for (fast, exact) in [dw, db, dNorm.0, dNorm.1] {
            expectEqual(fast.all.values, exact.all.values, tolerance: 1e-5)
        }
    }

    /// A bias that is shorter than the outputs gets only the sums of the last columns.
    @Test func shortBiasBelongsToTheLastOutputs() {
        var pair = Pair()
        let map = Map(&pair, inputs: 3, outputs: 5, bias: 2, scale: 1)
        let x = pair.operand(4, 3)
        let dy = pair.operand(4, 5)
        let dw = pair.state(5, 3)
        let db = (fast: pair.fast.state(1, 2), exact: pair.exact.state(1, 2))
        pair.fast.linearGradients(dy.fast.all, x.fast.all, map.fast, accumulatingInto: dw.fast.all, dBias: db.fast.all)
        pair.exact.linearGradients(
            dy.exact.all, x.exact.all, map.exact, accumulatingInto: dw.exact.all, dBias: db.exact.all)
        let sums = (3..<5).map { column in (0..<4).reduce(0) { $0 + dy.exact.all[$1 * 5 + column] } }
        expectEqual(db.exact.all.values, sums)
        expectEqual(db.fast.all.values, sums)
    }

    /// dW, db, dγ and dβ of W(γ∘x + β) + b, after unfolding, and dx, which is with respect to the normalised input.
    @Test func referenceAgreesWithFiniteDifferences() {
        var pair = Pair()
        let executor = pair.exact
        let map = Map(&pair, inputs: 4, outputs: 3, bias: 3, scale: 0.7)
        let input = executor.state(5, 4)
        let x = executor.operand(5, 4)
        let y = executor.state(5, 3)
        input.all.values = pair.numbers(20)
        func loss() -> Double {
            map.pack(executor, map.exact, \.exact, 0.7)
            executor.convert(input.all, into: x.all)
            executor.linear(x.all, map.exact, into: y.all)
            return project(y.all.values)
        }
        _ = loss()
        let dy = executor.operand(5, 3)
        let dx = executor.state(5, 4)
        let dw = executor.state(3, 4)
        let db = executor.state(1, 3)
        let dGain = executor.state(1, 4)
        let dShift = executor.state(1, 4)
        dy.all.values = projection(15)
        executor.linearBackward(dy.all, map.exact, into: dx.all)
        executor.linearGradients(dy.all, x.all, map.exact, accumulatingInto: dw.all, dBias: db.all)
        executor.unfold(
            dw.all, dBias: db.all, weight: map.weight.exact.all, norm: map.norm(\.exact), scale: 0.7,
            accumulatingInto: NormParameters(gain: dGain.all, shift: dShift.all))
        for (gradient, parameter) in [
            (dx, input), (dw, map.weight.exact), (db, map.bias.exact), (dGain, map.gain.exact),
            (dShift, map.shift.exact),
        ] {
            expectEqual(gradient.all.values, derivatives(of: parameter.all, loss), tolerance: 1e-7)
        }
    }
}
