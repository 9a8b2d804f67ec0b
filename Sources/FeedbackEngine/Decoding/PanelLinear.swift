import CKernels

// E3 for decoding, forward only: y = x W'ᵀ + b' as in Operations/Linear.swift
//
//   float32, bfloat16   y_o = Σ_i x_i W'_oi + b'_o                     x and W' rounded to the precision
//   int8                y_o = c_o (s Σ_i u_i w_oi + m Σ_i w_oi) + b'_o
//
// where W'_oi ≈ c_o w_oi with |w| ≤ 127 and x_i ≈ s u_i + m with 0 ≤ u ≤ 255, m = min x: what is rectified has m = 0 and
// uses all 8 bits. The sum of integers is exact, so all CPUs agree.
//
// A token reads every weight once, so the weights lie in the order of the reading: panels of 32 outputs, in a panel all
// inputs in turn (CKernels/Product.h). A row's sums run over the inputs in order, whatever other rows there are: its result
// has the same bits alone, in any batch, and on any number of threads.

/// W' and b' in panels, as a view.
package struct PanelLinear: @unchecked Sendable {
    package let inputs: Int
    package let outputs: Int
    private let panels: feedback_panels
    private let kernel: feedback_multiply

    /// The columns of a result that are one thread's part: whole panels.
    package static func columns(of outputs: Int, part: Int, of parts: Int) -> Range<Int> {
        func bound(_ part: Int) -> Int { min(outputs, wholePanels(outputs) / 32 * part / parts * 32) }
        return bound(part)..<bound(part + 1)
    }

    /// Packs a map; its arguments are those of `LinearOperations.pack`. Where `portable` is true, products do without the CPU's
    /// instructions for dot products.
    package init(
        weight: Matrix<State>, bias: Matrix<State>?, norm: NormParameters?, scale: Double = 1,
        precision: DecodingPrecision, portable: Bool = false, in arena: DecodingArena
    ) {
        (inputs, outputs) = (weight.columns, weight.rows)
        precondition(bias.map { $0.count == weight.rows } ?? true)
        let (format, columns) = (precision.weights(portable: portable), wholePanels(outputs))
        let groups = feedback_groups(format, inputs)
        let scaled = format == FEEDBACK_INT8 || format == FEEDBACK_FLOAT12
        let weights = arena.groups(columns / 32 * feedback_panel_width(format) * groups)
        let (ownBias, scales, sums) = (arena.state(1, columns), arena.state(1, columns), arena.state(1, columns))
        panels = feedback_panels(
            format: format, groups: groups, weights: weights, bias: ownBias.floats,
            scales: scaled ? scales.floats : nil, sums: sums.floats)
        kernel = feedback_kernels_of(format, portable).multiply
        let (folded, encoded, panel) = (
            decodingState(outputs, inputs), groupBuffer(outputs * groups), groupBuffer(32 * groups)
        )
        feedback_fold(
            weight.floats, norm?.gain.floats, norm?.shift.floats, bias?.floats, Float(scale), outputs, inputs,
            folded.all.floats, ownBias.floats)
        for o in 0..<outputs {
            let (from, to) = (folded.all.floats + o * inputs, encoded.all.groups + o * groups)
            switch format {
            case FEEDBACK_INT8: feedback_quantize(from, inputs, to, scales.floats + o, sums.floats + o)
            case FEEDBACK_FLOAT12: feedback_shrink(from, inputs, to, scales.floats + o)
            default: feedback_encode(format, from, inputs, to, nil, nil)
            }
        }
        feedback_pack_columns(
            format, encoded.all.base, groups * feedback_group_size(format), outputs, true, weights,
            panel.all.groups)
        withExtendedLifetime((folded, encoded, panel)) {}
    }

    /// What becomes of a result.
    package enum Finish {
        case store, storeRectified, add
        var kernel: feedback_finish {
            switch self {
            case .store: FEEDBACK_STORE
            case .storeRectified: FEEDBACK_STORE_RECTIFIED
            case .add: FEEDBACK_ADD
            }
        }
    }

    /// One thread's part of a product: its columns of y.
    package func multiply(_ x: EncodedRows, part: Int, of parts: Int, _ finish: Finish, into y: Matrix<State>) {
        let own = Self.columns(of: outputs, part: part, of: parts)
        assert(x.groups == panels.groups && y.columns == outputs && y.rows >= x.rows)
        let product = feedback_product(
            x: x.numbers.all.groups, bytes: x.groups * MemoryLayout<Int32>.size, scales: x.scales.all.floats,
            offsets: x.offsets.all.floats, rows: x.rows, from: own.lowerBound, to: own.upperBound,
            finish: finish.kernel, narrow: false, y: y.base, stride: y.columns * MemoryLayout<Float>.size,
            room: x.room.all.groups)
        withUnsafePointer(to: panels) { panels in withUnsafePointer(to: product) { kernel(panels, $0) } }
    }
}

/// One thread's inputs of a product, encoded in a precision, and the memory for them.
package final class EncodedRows {
    private let format: feedback_format
    private let float32 = feedback_kernels_of(FEEDBACK_FLOAT32, true)
    let numbers: Buffer<Operand>
    let scales, offsets: Buffer<State>
    private let normalized, deviation: Buffer<State>
    /// Scratch memory of the product.
    fileprivate let room: Buffer<Operand>
    private(set) var rows = 0
    private(set) var groups = 0

    package init(rows: Int, columns: Int, precision: DecodingPrecision, portable: Bool = false) {
        format = precision.weights(portable: portable)
        let groups = feedback_groups(format, columns)
        numbers = groupBuffer(rows * groups)
        room = groupBuffer(feedback_product_room(groups))
        scales = decodingState(1, rows)
        offsets = decodingState(1, rows)
        normalized = decodingState(1, columns)
        deviation = decodingState(1, 1)
    }

    /// Encodes the first `columns` numbers of each of the first `rows` rows of x, normalised (E2) where asked.
    package func encode(_ x: Matrix<State>, rows: Int, columns: Int, normalizing: Bool = false) {
        self.rows = rows
        groups = feedback_groups(format, columns)
        assert(rows <= x.rows && columns <= x.columns && rows * groups <= numbers.all.count)
        for row in 0..<rows {
            var from = x.floats + row * x.columns
            if normalizing {
                float32.normalize(from, 1, columns, normalized.all.floats, deviation.all.floats)
                from = normalized.all.floats
            }
            feedback_encode(
                format, from, columns, numbers.all.groups + row * groups, scales.all.floats + row,
                offsets.all.floats + row)
        }
    }
}
