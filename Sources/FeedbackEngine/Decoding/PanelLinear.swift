import CKernels

// Linear map for decoding: y = x W'ᵀ + b' as in Operations/Linear.swift, forward only
//
//   float32, bfloat16   y_o = Σ_i x_i W'_oi + b'_o                     x and W' rounded to the precision
//   int8                y_o = c_o (s Σ_i u_i w_oi + m Σ_i w_oi) + b'_o
//
// where W'_oi ≈ c_o w_oi with |w| ≤ 127 and x_i ≈ s u_i + m with 0 ≤ u ≤ 255, m = min x: what is rectified has m = 0 and
// uses all 8 bits. The sum of integers is exact, so all CPUs agree.
//
// A token reads every weight once, so the weights lie in the order of the reading: panels of 64 outputs, in a panel all
// inputs in turn. A row's sums run over the inputs in order, whatever other rows there are: its result has the same bits
// alone, in any batch, and on any number of threads.

/// W' and b' in panels.
public final class PanelLinear: @unchecked Sendable {
    public let inputs: Int
    public let outputs: Int
    private let weights: Buffer<Operand>
    private let bias, scales, sums: Buffer<State>
    let panels: feedback_panels

    /// Columns of a result: whole panels.
    public static func columns(_ outputs: Int) -> Int { (outputs + 63) & ~63 }
    /// The columns of a result that are one thread's part.
    public static func columns(of outputs: Int, part: Int, of parts: Int) -> Range<Int> {
        func bound(_ part: Int) -> Int { min(outputs, columns(outputs) / 64 * part / parts * 64) }
        return bound(part)..<bound(part + 1)
    }

    /// Packs the map in the terms of `LinearOperations.pack`.
    ///
    /// - Parameter portable: whether to do without the CPU's instructions for dot products.
    public init(
        weight: Matrix<State>, bias: Matrix<State>?, norm: NormParameters?, scale: Double = 1,
        precision: DecodingPrecision, portable: Bool = false
    ) {
        (inputs, outputs) = (weight.columns, weight.rows)
        precondition(bias.map { $0.count == weight.rows } ?? true)
        let (format, columns) = (precision.weights, Self.columns(outputs))
        let groups = feedback_groups(format, inputs)
        weights = groupBuffer(columns * groups)
        self.bias = decodingState(1, columns)
        scales = decodingState(1, columns)
        sums = decodingState(1, columns)
        panels = feedback_panels(
            format: format, fast: portable ? 0 : feedback_has_fast(format), groups: groups,
            weights: weights.all.groups, bias: self.bias.all.floats, scales: scales.all.floats, sums: sums.all.floats)
        let folded = decodingState(outputs, inputs)
        feedback_fold(
            weight.floats, norm?.gain.floats, norm?.shift.floats, bias?.floats, Float(scale), outputs, inputs,
            folded.all.floats, self.bias.all.floats)
        feedback_pack_panels(
            format, folded.all.floats, outputs, inputs, weights.all.groups, scales.all.floats, sums.all.floats)
    }

    /// What becomes of a result.
    public enum Finish {
        case store, storeRectified, add
        var kernel: feedback_finish {
            switch self {
            case .store: FEEDBACK_STORE
            case .storeRectified: FEEDBACK_STORE_RECTIFIED
            case .add: FEEDBACK_ADD
            }
        }
    }

    /// One thread's part of a product: its panels of y. `y` has whole panels.
    public func multiply(_ x: EncodedRows, part: Int, of parts: Int, _ finish: Finish, into y: Matrix<State>) {
        let own = Self.columns(of: outputs, part: part, of: parts)
        assert(x.groups == panels.groups && y.columns == Self.columns(outputs) && y.rows >= x.rows)
        withUnsafePointer(to: panels) {
            feedback_multiply_panels(
                $0, x.numbers.all.groups, x.scales.all.floats, x.offsets.all.floats, x.rows, own.lowerBound / 64,
                (own.upperBound + 63) / 64, y.floats,
                y.columns, finish.kernel)
        }
    }
}

/// Room for one thread's inputs of a product, in a precision.
public final class EncodedRows {
    private let format: feedback_format
    let numbers: Buffer<Operand>
    let scales, offsets: Buffer<State>
    private let normalized, deviation: Buffer<State>
    private(set) var rows = 0
    private(set) var groups = 0

    public init(rows: Int, columns: Int, precision: DecodingPrecision) {
        format = precision.weights
        numbers = groupBuffer(rows * feedback_groups(precision.weights, columns))
        scales = decodingState(1, rows)
        offsets = decodingState(1, rows)
        normalized = decodingState(1, columns)
        deviation = decodingState(1, 1)
    }

    /// Takes the first `rows` rows of x, the first `columns` numbers of each; normalised (Operations/LayerNorm.swift)
    /// where asked.
    public func encode(_ x: Matrix<State>, rows: Int, columns: Int, normalizing: Bool = false) {
        self.rows = rows
        groups = feedback_groups(format, columns)
        assert(rows <= x.rows && columns <= x.columns && rows * groups <= numbers.all.count)
        for row in 0..<rows {
            var from = x.floats + row * x.columns
            if normalizing {
                feedback_normalize(from, 1, columns, normalized.all.floats, deviation.all.floats)
                from = normalized.all.floats
            }
            feedback_encode(
                format, from, columns, numbers.all.groups + row * groups, scales.all.floats + row,
                offsets.all.floats + row)
        }
    }
}
