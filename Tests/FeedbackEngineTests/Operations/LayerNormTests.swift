import FeedbackEngine
import FeedbackTransformer
import Testing

@Suite struct LayerNormTests {
    @Test(arguments: [(1, 1), (3, 6), (5, 33), (4, 128), (2, 515)], Precision.supported)
    func engineAgreesWithReference(size: (rows: Int, columns: Int), precision: Precision) {
        let (rows, columns) = size
        var pair = Pair(precision)
        let x = pair.state(rows, columns, scale: 3)
        let dy = pair.state(rows, columns)
        let dx = pair.state(rows, columns)
        let y = pair.operand(rows, columns)
        let r = pair.state(rows, 1)
        pair.fast.normalize(x.fast.all, into: y.fast.all, inverseDeviation: r.fast.all)
        pair.exact.normalize(x.exact.all, into: y.exact.all, inverseDeviation: r.exact.all)
        expectEqual(y.fast.all.values, y.exact.all.values, tolerance: precision.tolerance(2e-6))
        expectEqual(r.fast.all.values, r.exact.all.values)
        pair.fast.normalizeBackward(
            dy.fast.all, normalized: y.fast.all, inverseDeviation: r.fast.all, accumulatingInto: dx.fast.all)
        pair.exact.normalizeBackward(
            dy.exact.all, normalized: y.exact.all, inverseDeviation: r.exact.all, accumulatingInto: dx.exact.all)
        expectEqual(dx.fast.all.values, dx.exact.all.values, tolerance: precision.tolerance(1e-5))
    }

    @Test func rowsHaveMeanZeroAndVarianceOne() {
        var pair = Pair()
        let x = pair.state(2, 64, scale: 10)
        let y = pair.operand(2, 64)
        let r = pair.state(2, 1)
        pair.exact.normalize(x.exact.all, into: y.exact.all, inverseDeviation: r.exact.all)
        for row in 0..<2 {
            let values = y.exact.all.rows(row..<row + 1).values
            #expect(abs(values.reduce(0, +)) < 1e-9)
            #expect(abs(values.reduce(0) { $0 + $1 * $1 } / 64 - 1) < 1e-5)
        }
    }

    /// A constant row has no deviation: ε keeps it finite.
    @Test func constantRowBecomesZero() {
        let executor = CPUExecutor()
        let x = executor.state(1, 5)
        let y = executor.operand(1, 5)
        let r = executor.state(1, 1)
        x.all.values = [4, 4, 4, 4, 4]
        executor.normalize(x.all, into: y.all, inverseDeviation: r.all)
        #expect(y.all.values == [0, 0, 0, 0, 0])
        #expect(abs(r.all[0] - 316.2278) < 1e-3)
    }

    @Test func referenceAgreesWithFiniteDifferences() {
        var pair = Pair()
        let executor = pair.exact
        let x = pair.state(3, 7).exact
        let dy = pair.state(3, 7).exact
        let dx = executor.state(3, 7)
        let y = executor.operand(3, 7)
        let r = executor.state(3, 1)
        dy.all.values = projection(21)
        let expected = derivatives(of: x.all) {
            executor.normalize(x.all, into: y.all, inverseDeviation: r.all)
            return project(y.all.values)
        }
        executor.normalize(x.all, into: y.all, inverseDeviation: r.all)
        executor.normalizeBackward(dy.all, normalized: y.all, inverseDeviation: r.all, accumulatingInto: dx.all)
        expectEqual(dx.all.values, expected, tolerance: 1e-7)
    }
}
