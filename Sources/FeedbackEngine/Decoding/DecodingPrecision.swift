import CKernels

/// The numbers of a decoder's weights, and of what is multiplied with them. Sums, the residual stream and the softmax are
/// float32 in every precision.
public enum DecodingPrecision: String, CaseIterable, Sendable {
    case float32
    /// Weights, activations, keys and values in bfloat16. Where the CPU multiplies bfloat16 a weight takes twelve bits; there
    /// one below 2^-14 of its output's largest weight has an error of up to 2^-15 of that.
    case bfloat16
    /// Weights in int8 with a scale for each output, activations in 8 bits with a scale and an offset for each token;
    /// keys and values in bfloat16.
    case int8

    /// The format of weights and of what is multiplied with them.
    ///
    /// - Parameter portable: whether to do without the CPU's instructions for dot products.
    func weights(portable: Bool) -> feedback_format {
        switch self {
        case .float32: FEEDBACK_FLOAT32
        case .bfloat16: portable || !feedback_has_fast(FEEDBACK_FLOAT12) ? FEEDBACK_BFLOAT16 : FEEDBACK_FLOAT12
        case .int8: FEEDBACK_INT8
        }
    }

    /// The format of keys, values and positions.
    var memory: feedback_format { self == .float32 ? FEEDBACK_FLOAT32 : FEEDBACK_BFLOAT16 }

    /// Bytes of a weight, and of a number in keys, values and positions.
    package var weightBytes: Double {
        let format = weights(portable: false)
        return Double(feedback_panel_width(format)) / 8 / Double(feedback_group_size(format))
    }
    package var memoryBytes: Int { 4 / feedback_group_size(memory) }

    /// Whether this CPU has instructions for int8's dot products; without, it is slow. bfloat16 needs none: reading takes
    /// longer than turning it into float32.
    public var isFast: Bool { self != .int8 || feedback_has_fast(FEEDBACK_INT8) }
}

/// Numbers of one format in groups of 32 bits (CKernels/include/Products.h).
typealias Groups = UnsafeMutablePointer<Int32>

extension Matrix {
    var groups: Groups { base.assumingMemoryBound(to: Int32.self) }
}

func groupBuffer(_ count: Int) -> Buffer<Operand> {
    Buffer(elementSize: MemoryLayout<Int32>.size, rows: 1, columns: count)
}

/// Memory for float32 numbers, all zero.
package func decodingState(_ rows: Int, _ columns: Int) -> Buffer<State> {
    Buffer(elementSize: MemoryLayout<Float>.size, rows: rows, columns: columns)
}

/// Owns the memory that a decoder's views point into, which lives as long as the arena. The views count no references:
/// threads that count those to one object wait for each other longer than a small product takes.
package final class DecodingArena {
    private var owned: [AnyObject] = []

    package init() {}

    /// The buffer's numbers, which are the arena's own from now on.
    func keep(_ buffer: Buffer<State>) -> Matrix<State> {
        owned.append(buffer)
        return buffer.all
    }

    func groups(_ count: Int) -> Groups {
        let buffer = groupBuffer(count)
        owned.append(buffer)
        return buffer.all.groups
    }

    package func state(_ rows: Int, _ columns: Int) -> Matrix<State> { keep(decodingState(rows, columns)) }
}

extension Matrix<State> {
    /// Adds a · x in some columns of a row.
    func add(_ x: Matrix, times a: Float, columns: Range<Int>) {
        assert(rows == 1 && x.rows == 1 && columns.upperBound <= min(self.columns, x.columns))
        feedback_add_scaled(x.floats + columns.lowerBound, a, columns.count, floats + columns.lowerBound)
    }
}
