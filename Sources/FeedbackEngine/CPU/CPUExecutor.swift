import CKernels
import COneDNN

/// The type of an executor's operands: what enters its matrix products and is kept for the backward pass.
///
/// Parameters, the residual stream, gradients and all sums are float32 either way.
public enum Precision: String, CaseIterable, Sendable {
    case float32
    case bfloat16

    /// Whether this CPU and this oneDNN compute in this type.
    public var isSupported: Bool { self == .float32 || feedback_has_bfloat16() != 0 }

    /// How many times as many products of a recurrent step's shape this type takes through in a second as float32 does,
    /// measured now, in some milliseconds. CPUs that multiply bfloat16 differ: some are no faster at it.
    public func speedOverFloat32() -> Double {
        let times = [self, .float32].map { precision in
            let executor = CPUExecutor(precision)
            let map = executor.makeLinear(inputs: 512, outputs: 512)
            let weight = executor.state(512, 512)
            executor.pack(map, weight: weight.all, bias: nil, norm: nil, scale: 1)
            let (x, y) = (executor.operand(16, 512), executor.state(16, 512))
            return (0..<12).map { _ in
                ContinuousClock().measure { executor.linear(x.all, map, into: y.all) }
            }.min()!
        }
        return times[1] / times[0]
    }
}

/// The fast executor: oneDNN's matrix products on weights packed once, and vector kernels, on one thread.
///
/// Several of these, one a thread, work on rows of their own; they share nothing but packed weights, which they only read.
public final class CPUExecutor: Executor {
    public let precision: Precision
    let kernels: OperandKernels
    /// Every product this executor has prepared, by linear map; creating one costs far more than running it.
    var products: [[Product]] = []
    /// Room for the largest weight matrix while it is packed.
    var packing: Buffer<State>?
    var isNarrow: Bool { precision == .bfloat16 }

    /// Call on the thread that will use the executor: from then on oneDNN runs on that thread alone.
    public init(_ precision: Precision = .float32) {
        precondition(precision.isSupported, "this CPU does not compute in \(precision.rawValue)")
        self.precision = precision
        kernels = precision == .bfloat16 ? .bfloat16 : .float32
        onednn_use_one_thread()
    }

    deinit {
        for product in products.joined() { onednn_product_destroy(product.handle) }
    }

    public func state(_ rows: Int, _ columns: Int) -> Buffer<State> {
        Buffer(elementSize: MemoryLayout<Float>.size, rows: rows, columns: columns)
    }
    public func operand(_ rows: Int, _ columns: Int) -> Buffer<Operand> {
        Buffer(
            elementSize: isNarrow ? MemoryLayout<UInt16>.size : MemoryLayout<Float>.size, rows: rows, columns: columns)
    }
    public func convert(_ x: Matrix<State>, into y: Matrix<Operand>) {
        assert(x.count == y.count)
        kernels.narrow(x.floats, x.count, y.base)
    }
    public func copy(_ x: Matrix<State>, into y: Matrix<State>) {
        assert(x.count == y.count)
        y.floats.update(from: x.floats, count: x.count)
    }
    public func add(_ x: Matrix<State>, accumulatingInto y: Matrix<State>) {
        assert(x.count == y.count)
        feedback_add(x.floats, x.count, y.floats)
    }
}
