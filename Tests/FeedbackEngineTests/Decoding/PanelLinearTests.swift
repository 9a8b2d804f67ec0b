import FeedbackTransformer
import Testing

@testable import FeedbackEngine

@Suite struct PanelLinearTests {
    /// Inputs and outputs: of one panel and several, full and not, of whole groups and not, wider than a tile and not.
    static let cases = [(1, 1), (7, 65), (128, 192), (33, 300), (260, 64)].flatMap { inputs, outputs in
        DecodingPrecision.allCases.flatMap { precision in
            [false, true].map { (inputs, outputs, precision, $0) }
        }
    }

    private struct Map {
        let weight, bias, gain, shift: Buffer<State>
        let linear: PanelLinear
        let portable: Bool
        private let arena = DecodingArena()
        let x: Matrix<State>
        private let rows: Buffer<State>

        init(_ inputs: Int, _ outputs: Int, rows count: Int, _ precision: DecodingPrecision, portable: Bool) {
            var random = RandomSource(seed: UInt64(inputs * 1000 + outputs))
            func drawn(_ rows: Int, _ columns: Int, around mean: Double = 0) -> Buffer<State> {
                let buffer = decodingState(rows, columns)
                for index in 0..<buffer.all.count { buffer.all[index] = mean + random.normal() }
                return buffer
            }
            (weight, bias) = (drawn(outputs, inputs), drawn(1, outputs))
            (gain, shift, rows) = (drawn(1, inputs), drawn(1, inputs), drawn(count, inputs, around: 0.5))
            x = rows.all
            self.portable = portable
            linear = PanelLinear(
                weight: weight.all, bias: bias.all, norm: NormParameters(gain: gain.all, shift: shift.all), scale: 0.5,
                precision: precision, portable: portable, in: arena)
        }

        func multiply(
            _ range: Range<Int>, _ precision: DecodingPrecision, parts: Int = 1, finish: PanelLinear.Finish = .store
        ) -> [[Float]] {
            let own = x.rows(range)
            let encoded = EncodedRows(
                rows: range.count, columns: linear.inputs, precision: precision, portable: portable)
            encoded.encode(own, rows: range.count, columns: linear.inputs)
            let y = decodingState(range.count, linear.outputs)
            for index in 0..<y.all.count { y.all[index] = 1 }
            for part in 0..<parts { linear.multiply(encoded, part: part, of: parts, finish, into: y.all) }
            return (0..<range.count).map { y.all.rows($0..<$0 + 1).floatValues }
        }

        /// One output in Double, and how far a precision may be from it: half a unit in the last place for every factor
        /// of every product, errors of random sign adding up as their root mean square, six times that.
        func exact(row: Int, output o: Int, _ precision: DecodingPrecision) -> (value: Double, tolerance: Double) {
            let inputs = linear.inputs
            let w = (0..<inputs).map { 0.5 * weight.all[o * inputs + $0] * gain.all[$0] }
            let own = (0..<inputs).map { x[row * inputs + $0] }
            let shifted = (0..<inputs).reduce(bias.all[o]) { $0 + weight.all[o * inputs + $1] * shift.all[$1] }
            let value = zip(w, own).reduce(0.5 * shifted) { $0 + $1.0 * $1.1 }
            let magnitude = zip(w, own).reduce(0) { $0 + $1.0 * $1.0 * $1.1 * $1.1 }.squareRoot()
            switch precision {
            case .float32: return (value, 1e-5 * (1 + magnitude + abs(value)))
            case .bfloat16: return (value, 6 * magnitude * 0x1p-8 + 1e-5)
            case .int8:
                let unit = (own.max()! - own.min()!) / 255
                let weightUnit = w.map(abs).max()! / 127
                let noise = zip(w, own).reduce(0) {
                    $0 + $1.0 * $1.0 * unit * unit / 4 + $1.1 * $1.1 * weightUnit * weightUnit / 4
                }
                return (value, 6 * noise.squareRoot() + 1e-4)
            }
        }
    }

    @Test(arguments: cases) func agreesWithDouble(
        inputs: Int, outputs: Int, precision: DecodingPrecision, portable: Bool
    ) {
        let map = Map(inputs, outputs, rows: 9, precision, portable: portable)
        let (stored, rectified, added) = (
            map.multiply(0..<9, precision), map.multiply(0..<9, precision, finish: .storeRectified),
            map.multiply(0..<9, precision, finish: .add)
        )
        for row in 0..<9 {
            for o in 0..<outputs {
                let (value, tolerance) = map.exact(row: row, output: o, precision)
                #expect(abs(Double(stored[row][o]) - value) <= tolerance, "row \(row), output \(o)")
                #expect(rectified[row][o] == max(0, stored[row][o]))
                #expect(abs(added[row][o] - stored[row][o] - 1) <= 1e-5 * (1 + abs(stored[row][o])))
            }
        }
    }

    /// The same bits alone, in batches of any size, and in parts.
    @Test(arguments: cases) func rowsAreIndependent(
        inputs: Int, outputs: Int, precision: DecodingPrecision, portable: Bool
    ) {
        let map = Map(inputs, outputs, rows: 75, precision, portable: portable)
        let alone = (0..<75).map { map.multiply($0..<$0 + 1, precision)[0] }
        for size in [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 31, 73, 75] {
            #expect(map.multiply(0..<size, precision) == Array(alone.prefix(size)), "\(size) rows")
        }
        for parts in 2...4 { #expect(map.multiply(0..<9, precision, parts: parts) == Array(alone.prefix(9))) }
    }

    /// With the CPU's dot products or without: the same integers, and elsewhere the same numbers but for rounding.
    @Test(arguments: DecodingPrecision.allCases) func portableEqualsFast(precision: DecodingPrecision) {
        let results = [false, true].map {
            Map(260, 130, rows: 7, precision, portable: $0).multiply(0..<7, precision)
        }
        for (fast, portable) in zip(results[0].joined(), results[1].joined()) {
            #expect(abs(fast - portable) <= 1e-4 * (1 + abs(fast)))
        }
    }

    /// What is not finite stays so, and whatever is all the same survives encoding.
    @Test(arguments: DecodingPrecision.allCases) func unusualNumbers(precision: DecodingPrecision) {
        let map = Map(40, 3, rows: 3, precision, portable: false)
        for index in 0..<40 { map.x[index] = 0.25 }
        map.x[40 + 17] = .nan
        map.x[80 + 39] = .infinity
        let y = map.multiply(0..<3, precision)
        for o in 0..<3 {
            let (value, tolerance) = map.exact(row: 0, output: o, precision)
            #expect(abs(Double(y[0][o]) - value) <= tolerance + 0.02 * (1 + abs(value)))
        }
        #expect(y[1].allSatisfy(\.isNaN) && y[2].allSatisfy { !$0.isFinite })
        map.weight.all[3] = .nan
        let arena = DecodingArena()
        let damaged = PanelLinear(weight: map.weight.all, bias: nil, norm: nil, precision: precision, in: arena)
        let encoded = EncodedRows(rows: 1, columns: 40, precision: precision)
        encoded.encode(map.x, rows: 1, columns: 40)
        let result = decodingState(1, 3)
        damaged.multiply(encoded, part: 0, of: 1, .store, into: result.all)
        #expect(result.all[0].isNaN && result.all[1].isFinite)
        withExtendedLifetime(arena) {}
    }

    /// bfloat16's weights are exact down to 2^-14 of an output's largest, whatever that is, and below right to 2^-15 of it.
    @Test(arguments: [Float(1), 0x1p-60, 0x1p60], [false, true]) func smallWeights(largest: Float, portable: Bool) {
        let exact: [Float] = [-1, 0.75, 0, 0x1.58p-3, -0x1.fep-10, 0x1.02p-13, -0x1p-14, 0x1.82p-14]
        let inexact: [Float] = [0x1.8p-15, -0x1p-15, 0x1.fep-16, 0x1p-20, -0x1p-30]
        let inputs = exact.count + inexact.count
        let (weight, x, y) = (decodingState(1, inputs), decodingState(inputs, inputs), decodingState(inputs, 1))
        for (index, value) in (exact + inexact).enumerated() {
            weight.all[index] = Double(value * largest)
            x.all[index * inputs + index] = Double(1 / largest)
        }
        let arena = DecodingArena()
        let linear = PanelLinear(
            weight: weight.all, bias: nil, norm: nil, precision: .bfloat16, portable: portable, in: arena)
        let encoded = EncodedRows(rows: inputs, columns: inputs, precision: .bfloat16, portable: portable)
        encoded.encode(x.all, rows: inputs, columns: inputs)
        linear.multiply(encoded, part: 0, of: 1, .store, into: y.all)
        for (index, value) in exact.enumerated() { #expect(y.all[index] == Double(value)) }
        for (index, value) in inexact.enumerated() {
            #expect(abs(y.all[exact.count + index] - Double(value)) <= 0x1p-15)
        }
        withExtendedLifetime((arena, weight, x, y)) {}
    }
}
