import CKernels
import COneDNN

/// The fast executor: float32, oneDNN's matrix products on weights packed once, and vector kernels, on one thread.
///
/// Several of these, one a thread, work on rows of their own; they share nothing but packed weights, which they only read.
public final class CPUExecutor: Executor {
    /// Every product this executor has prepared, by linear map; creating one costs far more than running it.
    var products: [[Product]] = []
    /// Room for the largest weight matrix while it is packed.
    var packing: Buffer<State>?

    /// Call on the thread that will use the executor: from then on oneDNN runs on that thread alone.
    public init() {
        onednn_use_one_thread()
    }

    deinit {
        for product in products.joined() { onednn_product_destroy(product.handle) }
    }

    public func state(_ rows: Int, _ columns: Int) -> Buffer<State> {
        Buffer(elementSize: MemoryLayout<Float>.size, rows: rows, columns: columns)
    }
    public func operand(_ rows: Int, _ columns: Int) -> Buffer<Operand> {
        Buffer(elementSize: MemoryLayout<Float>.size, rows: rows, columns: columns)
    }
    public func convert(_ x: Matrix<State>, into y: Matrix<Operand>) {
        assert(x.count == y.count)
        y.floats.update(from: x.floats, count: x.count)
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
