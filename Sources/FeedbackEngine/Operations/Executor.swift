import CKernels
import COneDNN
import FeedbackTransformer

/// Runs the model's operations. The pass is written once, against this protocol.
///
/// There are two executors. `CPUExecutor` is the fast one: matrix products on packed weights, and vector kernels.
/// `ReferenceExecutor` is plain Swift in double precision, the oracle that the tests hold the fast one to. Every
/// operation's equations, its reference and its fast version stand side by side in this folder.
///
/// An executor belongs to one thread at a time. Several executors of a kind may share matrices and packed weights.
///
/// Argument labels carry the write mode: `into:` overwrites, `accumulatingInto:` adds.
package protocol Executor: AnyObject, SendableMetatype, EmbeddingOperations, LayerNormOperations, LinearOperations,
    RectifierOperations,
    AttentionOperations, DropoutOperations, MemorySumOperations, CrossEntropyOperations, OptimizerOperations
{
    /// Where its operations' time and its products are noted, while somebody wants to know.
    var recorder: Recorder<Linear>? { get set }

    /// Memory for numbers of the state role, all zero.
    func state(_ rows: Int, _ columns: Int) -> Buffer<State>
    /// Memory for numbers of the operand role, all zero.
    func operand(_ rows: Int, _ columns: Int) -> Buffer<Operand>
    /// y = x, in the operand type.
    func convert(_ x: Matrix<State>, into y: Matrix<Operand>)
    /// y = x.
    func copy(_ x: Matrix<State>, into y: Matrix<State>)
    /// y += x.
    func add(_ x: Matrix<State>, accumulatingInto y: Matrix<State>)
}

/// Plain loops in double precision: what the equations say, and nothing else.
package final class ReferenceExecutor: Executor {
    package var recorder: Recorder<ReferenceLinear>?

    package init() {}

    package func state(_ rows: Int, _ columns: Int) -> Buffer<State> {
        Buffer(elementSize: MemoryLayout<Double>.size, rows: rows, columns: columns)
    }
    package func operand(_ rows: Int, _ columns: Int) -> Buffer<Operand> {
        Buffer(elementSize: MemoryLayout<Double>.size, rows: rows, columns: columns)
    }
    package func convert(_ x: Matrix<State>, into y: Matrix<Operand>) {
        y.doubles.update(from: x.doubles, count: x.count)
    }
    package func copy(_ x: Matrix<State>, into y: Matrix<State>) {
        y.doubles.update(from: x.doubles, count: x.count)
    }
    package func add(_ x: Matrix<State>, accumulatingInto y: Matrix<State>) {
        for i in 0..<x.count { y.doubles[i] += x.doubles[i] }
    }
}

/// The fast executor: oneDNN's matrix products on weights packed once, and vector kernels, on one thread.
///
/// Several of these, one a thread, work on rows of their own; they share nothing but packed weights, which they only read.
package final class CPUExecutor: Executor {
    package let precision: Precision
    package var recorder: Recorder<CPULinear>?
    /// On operands, and on what is float32 in any precision.
    let kernels, float32: feedback_kernels
    /// Every product this executor has prepared, by linear map; creating one costs far more than running it.
    var prepared: [[Product]] = []
    /// Scratch memory for the largest weight matrix while it is packed.
    var packing: (folded: Buffer<State>, operands: Buffer<Operand>)?
    /// Scratch memory of our own products.
    private var room: Buffer<Operand>?
    /// Scratch memory for what positions add to the scores of a block of steps.
    private var scores: Buffer<State>?
    let products: Products
    var isNarrow: Bool { precision == .bfloat16 }

    /// Who computes products with packed weights.
    package enum Products: Sendable, CaseIterable {
        case oneDNN
        /// Our own kernel (CKernels/Product.h), in plain vector code; for float32 only.
        case plain
        /// Our own kernel, with instructions that this CPU has.
        case fast

        /// Whether this CPU can compute so in a precision.
        package func isSupported(_ precision: Precision) -> Bool {
            switch self {
            case .oneDNN: precision.isSupported
            case .plain: precision == .float32
            case .fast: feedback_prefers_own_products(precision.format)
            }
        }

        /// What is fastest for operands of a precision on this CPU.
        static func best(_ precision: Precision) -> Products {
            if Products.fast.isSupported(precision) { return .fast }
            return precision == .float32 && !oneDNNPacksFloat32 ? .plain : .oneDNN
        }

        private static let oneDNNPacksFloat32: Bool = {
            guard let packed = onednn_packed_create(512, 512, false) else { return false }
            defer { onednn_packed_destroy(packed) }
            return !onednn_packed_is_plain(packed)
        }()
    }

    /// Call on the thread that will use the executor: from then on oneDNN runs on that thread alone.
    package convenience init(_ precision: Precision = .float32) { self.init(precision, products: .best(precision)) }

    package init(_ precision: Precision, products: Products) {
        precondition(
            precision.isSupported && products.isSupported(precision),
            "this CPU does not compute in \(precision.rawValue), or not so")
        self.precision = precision
        self.products = products
        kernels = feedback_kernels_of(precision.format, products == .plain)
        float32 = feedback_kernels_of(FEEDBACK_FLOAT32, true)
        onednn_use_one_thread()
    }

    deinit {
        for product in prepared.joined() { onednn_product_destroy(product.handle) }
    }

    func room(_ groups: Int) -> Groups {
        if room.map({ $0.all.count < groups }) ?? true { room = groupBuffer(groups) }
        return room!.all.groups
    }

    func scores(_ rows: Int, _ columns: Int) -> Matrix<State> {
        if scores.map({ $0.all.count < rows * columns }) ?? true { scores = state(rows, columns) }
        return scores!.all
    }

    package func state(_ rows: Int, _ columns: Int) -> Buffer<State> {
        Buffer(elementSize: MemoryLayout<Float>.size, rows: rows, columns: columns)
    }
    package func operand(_ rows: Int, _ columns: Int) -> Buffer<Operand> {
        Buffer(
            elementSize: isNarrow ? MemoryLayout<UInt16>.size : MemoryLayout<Float>.size, rows: rows, columns: columns)
    }
    package func convert(_ x: Matrix<State>, into y: Matrix<Operand>) {
        assert(x.count == y.count)
        kernels.narrow(x.floats, x.count, y.base)
    }
    package func copy(_ x: Matrix<State>, into y: Matrix<State>) {
        assert(x.count == y.count)
        y.floats.update(from: x.floats, count: x.count)
    }
    package func add(_ x: Matrix<State>, accumulatingInto y: Matrix<State>) {
        assert(x.count == y.count)
        feedback_add(x.floats, x.count, y.floats)
    }
}
