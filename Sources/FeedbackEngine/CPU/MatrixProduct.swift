import CKernels
import COneDNN
import Synchronization

/// A product of a linear map that oneDNN has prepared: of one kind, for so many rows.
struct Product {
    let kind: ProductKind
    let rows: Int
    let handle: OpaquePointer
}

/// Weights [k, n] packed once for many products: in oneDNN's layout, or in panels of columns for our own kernel.
private enum PackedWeights {
    case oneDNN(OpaquePointer)
    case panels(Buffer<Operand>)

    init(k: Int, n: Int, _ executor: CPUExecutor) {
        if executor.products != .oneDNN {
            self = .panels(groupBuffer(feedback_groups(executor.precision.format, k) * wholePanels(n)))
            return
        }
        guard let packed = onednn_packed_create(Int64(k), Int64(n), executor.isNarrow) else {
            fatalError(String(cString: onednn_last_error()))
        }
        self = .oneDNN(packed)
    }

    /// Packs w, [n, k] where `transposed`, else [k, n]; `operands` are the same numbers in the operand type.
    func pack(
        _ w: Matrix<State>, _ operands: UnsafeRawPointer, k: Int, n: Int, transposed: Bool, _ precision: Precision
    ) {
        switch self {
        case .oneDNN(let packed):
            if onednn_pack(packed, w.floats, transposed) != 0 { fatalError(String(cString: onednn_last_error())) }
        case .panels(let panels):
            feedback_pack_columns(precision.format, operands, k, n, transposed, panels.all.groups, nil)
        }
    }

    func destroy() {
        if case .oneDNN(let packed) = self { onednn_packed_destroy(packed) }
    }
}

/// W' packed twice: for x W'ᵀ and for dy W'.
package final class CPULinear: PackedLinear, @unchecked Sendable {  // written by `pack` alone
    package let inputs, outputs: Int
    private static let counter = Atomic<Int>(0)
    /// The index of this map's products in every executor.
    let number = counter.add(1, ordering: .relaxed).oldValue
    fileprivate let forward: PackedWeights
    fileprivate let backward: PackedWeights
    /// b', padded to whole panels.
    let bias: Buffer<State>

    init(inputs: Int, outputs: Int, _ executor: CPUExecutor) {
        forward = PackedWeights(k: inputs, n: outputs, executor)
        backward = PackedWeights(k: outputs, n: inputs, executor)
        bias = Buffer(elementSize: MemoryLayout<Float>.size, rows: 1, columns: wholePanels(outputs))
        (self.inputs, self.outputs) = (inputs, outputs)
    }

    deinit {
        forward.destroy()
        backward.destroy()
    }
}

/// So many columns, rounded up to whole panels.
func wholePanels(_ columns: Int) -> Int { (columns + 31) & ~31 }

/// Prepares a product or stops the program: a refusal here is a defect or an unusable oneDNN, not bad input.
private func prepare(
    m: Int, k: Int, n: Int, like: OpaquePointer? = nil, sourceTransposed: Bool = false, bias: Bool = false,
    rectified: Bool = false, accumulate: Bool = false, narrow: Bool, narrowResult: Bool = false
) -> OpaquePointer {
    let shape = onednn_shape(
        m: Int64(m), k: Int64(k), n: Int64(n), source_transposed: sourceTransposed, bias: bias, relu: rectified,
        accumulate: accumulate, narrow: narrow, narrow_destination: narrowResult)
    guard let product = onednn_product_create(shape, like) else {
        fatalError("a product of [\(m), \(k)] and [\(k), \(n)] failed. \(String(cString: onednn_last_error()))")
    }
    return product
}

extension CPUExecutor {
    /// oneDNN's product of that kind for so many rows, prepared when it is first asked for.
    private func product(
        _ linear: CPULinear, _ kind: ProductKind, rows: Int, prepare: () -> OpaquePointer
    ) -> OpaquePointer {
        if prepared.count <= linear.number {
            prepared.append(contentsOf: repeatElement([], count: linear.number + 1 - prepared.count))
        }
        for known in prepared[linear.number] where known.rows == rows && known.kind == kind { return known.handle }
        let handle = prepare()
        prepared[linear.number].append(Product(kind: kind, rows: rows, handle: handle))
        return handle
    }

    /// y from x, or dx from dy: the products of W' and b'.
    private func multiply<Y>(_ x: Matrix<Operand>, _ linear: CPULinear, _ kind: ProductKind, into y: Matrix<Y>) {
        recorded(kind, linear, rows: x.rows) {
            let isForward = kind.phase == .linearForward
            let bias = isForward ? linear.bias.all.floats : nil
            let narrowResult = y.elementSize == MemoryLayout<UInt16>.size
            assert(x.rows == y.rows)
            assert(x.columns == (isForward ? linear.inputs : linear.outputs))
            assert(y.columns == (isForward ? linear.outputs : linear.inputs))
            if x.rows == 0 { return }
            switch isForward ? linear.forward : linear.backward {
            case .panels(let panels):
                let groups = feedback_groups(precision.format, x.columns)
                var weights = feedback_panels(
                    format: precision.format, groups: groups, weights: panels.all.groups, bias: bias, scales: nil,
                    sums: nil)
                var product = feedback_product(
                    x: x.base, bytes: x.columns * x.elementSize, scales: nil, offsets: nil, rows: x.rows, from: 0,
                    to: y.columns,
                    finish: kind.accumulates
                        ? FEEDBACK_ADD : kind.rectifies ? FEEDBACK_STORE_RECTIFIED : FEEDBACK_STORE,
                    narrow: narrowResult, y: y.base, stride: y.columns * y.elementSize,
                    room: room(feedback_product_room(groups)))
                kernels.multiply(&weights, &product)
            case .oneDNN(let packed):
                let handle = product(linear, kind, rows: x.rows) {
                    prepare(
                        m: x.rows, k: x.columns, n: y.columns, like: packed, bias: isForward,
                        rectified: kind.rectifies, accumulate: kind.accumulates, narrow: isNarrow,
                        narrowResult: narrowResult)
                }
                if onednn_product_run(handle, x.base, nil, packed, bias, y.base) != 0 {
                    fatalError(String(cString: onednn_last_error()))
                }
            }
        }
    }

    package func makeLinear(inputs: Int, outputs: Int) -> CPULinear {
        CPULinear(inputs: inputs, outputs: outputs, self)
    }

    package func pack(
        _ linear: CPULinear, weight: Matrix<State>, bias: Matrix<State>?, norm: NormParameters?, scale: Double
    ) {
        precondition(weight.rows == linear.outputs && weight.columns == linear.inputs)
        if packing.map({ $0.folded.all.count < weight.count }) ?? true {
            packing = (state(1, weight.count), operand(1, isNarrow ? weight.count : 0))
        }
        let folded = packing!.folded.all.elements(0..<weight.count).shaped(linear.outputs, linear.inputs)
        let unbiased = linear.outputs - (bias?.count ?? 0)
        for (rows, b) in [(0..<unbiased, nil), (unbiased..<linear.outputs, bias?.floats)] {
            feedback_fold(
                weight.rows(rows).floats, norm?.gain.floats, norm?.shift.floats, b, Float(scale), rows.count,
                linear.inputs, folded.rows(rows).floats, linear.bias.all.floats + rows.lowerBound)
        }
        var operands = UnsafeRawPointer(folded.base)
        if isNarrow {
            let narrow = packing!.operands.all.elements(0..<weight.count)
            convert(folded, into: narrow)
            operands = UnsafeRawPointer(narrow.base)
        }
        linear.forward.pack(folded, operands, k: linear.inputs, n: linear.outputs, transposed: true, precision)
        linear.backward.pack(folded, operands, k: linear.outputs, n: linear.inputs, transposed: false, precision)
    }

    package func linear(_ x: Matrix<Operand>, _ linear: CPULinear, into y: Matrix<Operand>, rectified: Bool) {
        multiply(x, linear, .forwardToOperand(rectified: rectified), into: y)
    }
    package func linear(_ x: Matrix<Operand>, _ linear: CPULinear, into y: Matrix<State>) {
        multiply(x, linear, .forward(accumulates: false), into: y)
    }
    package func linear(_ x: Matrix<Operand>, _ linear: CPULinear, accumulatingInto y: Matrix<State>) {
        multiply(x, linear, .forward(accumulates: true), into: y)
    }
    package func linearBackward(_ dy: Matrix<Operand>, _ linear: CPULinear, into dx: Matrix<Operand>) {
        multiply(dy, linear, .backwardToOperand, into: dx)
    }
    package func linearBackward(_ dy: Matrix<Operand>, _ linear: CPULinear, into dx: Matrix<State>) {
        multiply(dy, linear, .backward(accumulates: false), into: dx)
    }
    package func linearBackward(_ dy: Matrix<Operand>, _ linear: CPULinear, accumulatingInto dx: Matrix<State>) {
        multiply(dy, linear, .backward(accumulates: true), into: dx)
    }

    package func linearGradients(
        _ dy: Matrix<Operand>, _ x: Matrix<Operand>, _ linear: CPULinear, accumulatingInto dWeight: Matrix<State>,
        dBias: Matrix<State>?
    ) {
        recorded(.gradient, linear, rows: dy.rows) {
            assert(dy.rows == x.rows && dWeight.rows == dy.columns && dWeight.columns == x.columns)
            if dy.rows == 0 { return }
            let handle = product(linear, .gradient, rows: dy.rows) {
                prepare(
                    m: dy.columns, k: dy.rows, n: x.columns, sourceTransposed: true, accumulate: true, narrow: isNarrow)
            }
            let status = onednn_product_run(handle, dy.base, x.base, nil, nil, dWeight.floats)
            if status != 0 { fatalError(String(cString: onednn_last_error())) }
            guard let dBias else { return }
            kernels.addColumnSums(
                dy.pointer(dy.columns - dBias.count), dy.rows, dy.columns, dBias.count, dBias.floats)
        }
    }

    package func unfold(
        _ dWeight: Matrix<State>, dBias: Matrix<State>?, weight: Matrix<State>, norm: NormParameters?, scale: Double,
        accumulatingInto dNorm: NormParameters?
    ) {
        if let norm, let dNorm, let dBias {
            feedback_unfold(
                weight.floats, norm.gain.floats, norm.shift.floats, Float(scale), weight.rows, weight.columns,
                dWeight.floats, dBias.floats, dBias.count, dNorm.gain.floats, dNorm.shift.floats)
        } else {
            precondition(scale == 1, "a scale comes with a LayerNorm")
        }
        guard scale != 1, let dBias else { return }
        for o in 0..<dBias.count { dBias.floats[o] *= Float(scale) }
    }
}
