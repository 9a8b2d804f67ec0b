/// Runs the model's operations. The model is written once, against this protocol.
///
/// There are two executors. `CPUExecutor` is the fast one: matrix products on packed weights, and vector kernels.
/// `ReferenceExecutor` is plain Swift in double precision, the oracle that the tests hold the fast one to. Every
/// operation's equations, its reference and its fast version stand side by side in this folder.
///
/// An executor belongs to one thread at a time. Several executors of a kind may share matrices and packed weights.
///
/// Argument labels carry the write mode: `into:` overwrites, `accumulatingInto:` adds.
public protocol Executor: AnyObject, EmbeddingOperations, LayerNormOperations, LinearOperations, RectifierOperations,
    AttentionOperations, DropoutOperations, MemorySumOperations, CrossEntropyOperations, OptimizerOperations
{
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
public final class ReferenceExecutor: Executor {
    public init() {}

    public func state(_ rows: Int, _ columns: Int) -> Buffer<State> {
        Buffer(elementSize: MemoryLayout<Double>.size, rows: rows, columns: columns)
    }
    public func operand(_ rows: Int, _ columns: Int) -> Buffer<Operand> {
        Buffer(elementSize: MemoryLayout<Double>.size, rows: rows, columns: columns)
    }
    public func convert(_ x: Matrix<State>, into y: Matrix<Operand>) {
        y.doubles.update(from: x.doubles, count: x.count)
    }
    public func copy(_ x: Matrix<State>, into y: Matrix<State>) {
        y.doubles.update(from: x.doubles, count: x.count)
    }
    public func add(_ x: Matrix<State>, accumulatingInto y: Matrix<State>) {
        for i in 0..<x.count { y.doubles[i] += x.doubles[i] }
    }
}
