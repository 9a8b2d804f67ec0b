import CKernels
import COneDNN
import Synchronization

/// One prepared product of one linear map: which kind, for how many rows.
struct Product {
    enum Kind: Equatable {
        case forward(rectified: Bool, accumulate: Bool, narrow: Bool)
        case backward(accumulate: Bool, narrow: Bool)
        case gradient
    }
    let kind: Kind
    let rows: Int
    let handle: OpaquePointer
}

/// W' packed twice: for x W'ᵀ and for dy W'.
final class CPULinear: PackedLinear, @unchecked Sendable {
    private static let counter = Atomic<Int>(0)
    /// The index of this map's products in every executor.
    let number = counter.add(1, ordering: .relaxed).oldValue
    let forward: OpaquePointer
    let backward: OpaquePointer
    let bias: Buffer<State>

    /// The layouts are those that oneDNN prefers at 16 rows; it uses the same from 1 row to hundreds.
    init(inputs: Int, outputs: Int, narrow: Bool) {
        forward = Self.layout(k: inputs, n: outputs, narrow: narrow)
        backward = Self.layout(k: outputs, n: inputs, narrow: narrow)
        bias = Buffer(elementSize: MemoryLayout<Float>.size, rows: 1, columns: outputs)
        super.init(inputs: inputs, outputs: outputs)
    }

    deinit {
        onednn_packed_destroy(forward)
        onednn_packed_destroy(backward)
    }

    private static func layout(k: Int, n: Int, narrow: Bool) -> OpaquePointer {
        let product = prepare(m: 16, k: k, n: n, layout: onednn_weights_packed, narrow: narrow)
        defer { onednn_product_destroy(product) }
        guard let packed = onednn_packed_create(product) else { fatalError(String(cString: onednn_last_error())) }
        return packed
    }
}

/// Prepares a product or stops the program: a refusal here is a defect or an unusable oneDNN, not bad input.
private func prepare(
    m: Int, k: Int, n: Int, layout: onednn_weights_layout, like: OpaquePointer? = nil, sourceTransposed: Bool = false,
    bias: Bool = false, rectified: Bool = false, accumulate: Bool = false, narrow: Bool, narrowResult: Bool = false
) -> OpaquePointer {
    let shape = onednn_shape(
        m: Int64(m), k: Int64(k), n: Int64(n), source_transposed: sourceTransposed, layout: layout, bias: bias,
        relu: rectified, accumulate: accumulate, narrow: narrow, narrow_destination: narrowResult)
    guard let product = onednn_product_create(shape, like) else {
        fatalError("a product of [\(m), \(k)] and [\(k), \(n)] failed. \(String(cString: onednn_last_error()))")
    }
    return product
}

extension CPUExecutor {
    private func product(_ linear: CPULinear, _ kind: Product.Kind, rows: Int) -> OpaquePointer {
        if products.count <= linear.number {
            products.append(contentsOf: repeatElement([], count: linear.number + 1 - products.count))
        }
        for known in products[linear.number] where known.rows == rows && known.kind == kind { return known.handle }
        let (inputs, outputs) = (linear.inputs, linear.outputs)
        let handle =
            switch kind {
            case .forward(let rectified, let accumulate, let narrowResult):
                prepare(
                    m: rows, k: inputs, n: outputs, layout: onednn_weights_packed, like: linear.forward, bias: true,
                    rectified: rectified, accumulate: accumulate, narrow: isNarrow, narrowResult: narrowResult)
            case .backward(let accumulate, let narrowResult):
                prepare(
                    m: rows, k: outputs, n: inputs, layout: onednn_weights_packed, like: linear.backward,
                    accumulate: accumulate, narrow: isNarrow, narrowResult: narrowResult)
            case .gradient:
                prepare(
                    m: outputs, k: rows, n: inputs, layout: onednn_weights_plain, sourceTransposed: true,
                    accumulate: true, narrow: isNarrow)
            }
        products[linear.number].append(Product(kind: kind, rows: rows, handle: handle))
        return handle
    }

    private func run<Y>(_ x: Matrix<Operand>, _ linear: PackedLinear, _ kind: Product.Kind, into y: Matrix<Y>) {
        let linear = unsafeDowncast(linear, to: CPULinear.self)
        assert(x.rows == y.rows)
        if x.rows == 0 { return }
        let product = product(linear, kind, rows: x.rows)
        let status: Int32
        if case .backward = kind {
            assert(x.columns == linear.outputs && y.columns == linear.inputs)
            status = onednn_product_run(product, x.base, nil, linear.backward, nil, y.base)
        } else {
            assert(x.columns == linear.inputs && y.columns == linear.outputs)
            status = onednn_product_run(product, x.base, nil, linear.forward, linear.bias.all.floats, y.base)
        }
        if status != 0 { fatalError(String(cString: onednn_last_error())) }
    }

    public func makeLinear(inputs: Int, outputs: Int) -> PackedLinear {
        CPULinear(inputs: inputs, outputs: outputs, narrow: isNarrow)
    }

    public func pack(
        _ linear: PackedLinear, weight: Matrix<State>, bias: Matrix<State>?, norm: NormParameters?, scale: Double
    ) {
        let linear = unsafeDowncast(linear, to: CPULinear.self)
        precondition(weight.rows == linear.outputs && weight.columns == linear.inputs)
        if packing.map({ $0.all.count < weight.count }) ?? true { packing = state(1, weight.count) }
        let folded = packing!.all.elements(0..<weight.count).shaped(linear.outputs, linear.inputs)
        let unbiased = linear.outputs - (bias?.count ?? 0)
        for (rows, b) in [(0..<unbiased, nil), (unbiased..<linear.outputs, bias?.floats)] {
            feedback_fold(
                weight.rows(rows).floats, norm?.gain.floats, norm?.shift.floats, b, Float(scale), rows.count,
                linear.inputs, folded.rows(rows).floats, linear.bias.all.floats + rows.lowerBound)
        }
        let status =
            onednn_pack(linear.forward, folded.floats, true) + onednn_pack(linear.backward, folded.floats, false)
        if status != 0 { fatalError(String(cString: onednn_last_error())) }
    }

    public func linear(_ x: Matrix<Operand>, _ linear: PackedLinear, into y: Matrix<Operand>, rectified: Bool) {
        run(x, linear, .forward(rectified: rectified, accumulate: false, narrow: isNarrow), into: y)
    }
    public func linear(_ x: Matrix<Operand>, _ linear: PackedLinear, into y: Matrix<State>) {
        run(x, linear, .forward(rectified: false, accumulate: false, narrow: false), into: y)
    }
    public func linear(_ x: Matrix<Operand>, _ linear: PackedLinear, accumulatingInto y: Matrix<State>) {
        run(x, linear, .forward(rectified: false, accumulate: true, narrow: false), into: y)
    }
    public func linearBackward(_ dy: Matrix<Operand>, _ linear: PackedLinear, into dx: Matrix<Operand>) {
        run(dy, linear, .backward(accumulate: false, narrow: isNarrow), into: dx)
    }
    public func linearBackward(_ dy: Matrix<Operand>, _ linear: PackedLinear, into dx: Matrix<State>) {
        run(dy, linear, .backward(accumulate: false, narrow: false), into: dx)
    }
    public func linearBackward(_ dy: Matrix<Operand>, _ linear: PackedLinear, accumulatingInto dx: Matrix<State>) {
        run(dy, linear, .backward(accumulate: true, narrow: false), into: dx)
    }

    public func linearGradients(
        _ dy: Matrix<Operand>, _ x: Matrix<Operand>, _ linear: PackedLinear, accumulatingInto dWeight: Matrix<State>,
        dBias: Matrix<State>?
    ) {
        let linear = unsafeDowncast(linear, to: CPULinear.self)
        assert(dy.rows == x.rows && dWeight.rows == dy.columns && dWeight.columns == x.columns)
        if dy.rows == 0 { return }
        let product = product(linear, .gradient, rows: dy.rows)
        let status = onednn_product_run(product, dy.base, x.base, nil, nil, dWeight.floats)
        if status != 0 { fatalError(String(cString: onednn_last_error())) }
        guard let dBias else { return }
        kernels.addColumnSums(
            dy.pointer(dy.columns - dBias.count), dy.rows, dy.columns, dBias.count, dBias.floats)
    }

    public func unfold(
        _ dWeight: Matrix<State>, dBias: Matrix<State>?, weight: Matrix<State>, norm: NormParameters?, scale: Double,
        accumulatingInto dNorm: NormParameters?
    ) {
        if let norm, let dNorm, let dBias {
            feedback_unfold(
                weight.floats, norm.gain.floats, norm.shift.floats, Float(scale), weight.rows, weight.columns,
                dWeight.floats, dBias.floats, dNorm.gain.floats, dNorm.shift.floats)
        } else {
            precondition(scale == 1, "a scale comes with a LayerNorm")
        }
        guard scale != 1, let dBias else { return }
        for o in 0..<dBias.count { dBias.floats[o] *= Float(scale) }
    }
}
