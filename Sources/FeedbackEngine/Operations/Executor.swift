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
