import FeedbackEngine
import FeedbackTransformer
import Testing

/// The same numbers in the engine and in the reference's Double, so that both can be asked the same.
struct Pair {
    let fast: CPUExecutor
    let exact = ReferenceExecutor()
    var random: RandomSource

    init(_ precision: Precision = .float32, products: CPUExecutor.Products? = nil, seed: UInt64 = 1) {
        fast = products.map { CPUExecutor(precision, products: $0) } ?? CPUExecutor(precision)
        random = RandomSource(seed: seed)
    }

    /// Normally distributed numbers, rounded to float32.
    mutating func numbers(_ count: Int, scale: Double = 1) -> [Double] {
        (0..<count).map { _ in Double(Float(scale * random.normal())) }
    }

    /// Two buffers with the same random numbers.
    mutating func state(_ rows: Int, _ columns: Int, scale: Double = 1) -> (fast: Buffer<State>, exact: Buffer<State>) {
        let values = numbers(rows * columns, scale: scale)
        let pair = (fast.state(rows, columns), exact.state(rows, columns))
        (pair.0.all.values, pair.1.all.values) = (values, values)
        return pair
    }
    /// The same as operands, which may be rounded further.
    mutating func operand(_ rows: Int, _ columns: Int, scale: Double = 1) -> (
        fast: Buffer<Operand>, exact: Buffer<Operand>
    ) {
        let pair = (fast.operand(rows, columns), exact.operand(rows, columns))
        pair.0.all.values = numbers(rows * columns, scale: scale)
        pair.1.all.values = pair.0.all.values
        return pair
    }
}

extension Precision {
    /// Those that this CPU computes in.
    static let supported = allCases.filter(\.isSupported)

    /// A tolerance for float32, or one for bfloat16, which rounds every operand to 8 bits.
    func tolerance(_ float32: Double, bfloat16: Double = 2e-2) -> Double { self == .float32 ? float32 : bfloat16 }
}

/// Elementwise agreement: float32 rounds each of the terms that a number is a sum of, so errors are measured against one or the
/// largest number.
func expectEqual(
    _ fast: [Double], _ exact: [Double], tolerance: Double = 2e-6, _ what: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    #expect(fast.count == exact.count, "\(what)", sourceLocation: sourceLocation)
    let largest = exact.reduce(1) { max($0, abs($1)) }
    let error = zip(fast, exact).reduce(0.0) { max($0, ($1.0 - $1.1).isNaN ? .infinity : abs($1.0 - $1.1)) }
    #expect(error <= tolerance * largest, "\(what): off by \(error) of \(largest)", sourceLocation: sourceLocation)
}

/// The derivative of a scalar function with respect to each of some numbers, by central differences.
func derivatives(of matrix: Matrix<State>, step: Double = 1e-5, _ function: () -> Double) -> [Double] {
    (0..<matrix.count).map { index in
        let value = matrix[index]
        matrix[index] = value + step
        let above = function()
        matrix[index] = value - step
        let below = function()
        matrix[index] = value
        return (above - below) / (2 * step)
    }
}

/// A scalar that depends on every one of some numbers: their product with fixed weights.
func project(_ values: [Double]) -> Double {
    values.enumerated().reduce(0) { $0 + $1.element * (Double(($1.offset * 7919) % 13) - 6) }
}
/// Its gradient with respect to each.
func projection(_ count: Int) -> [Double] { (0..<count).map { Double(($0 * 7919) % 13) - 6 } }
