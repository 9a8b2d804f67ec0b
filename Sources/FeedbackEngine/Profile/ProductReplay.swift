import FeedbackTransformer

/// The matrix products of a training step and nothing else, on memory that stays in cache as far as it can: the most
/// that this machine, with these products on so many threads, could do. Every worker runs those of its own rows.
final class ProductReplay<E: Executor> {
    private let workers: [Worker]
    private let pool: WorkerPool
    let operations: Double

    private final class Worker: @unchecked Sendable {
        let executor: E
        let products: [RecordedProduct<E.Linear>]
        /// What the products read and where they write; each product uses the beginning.
        let (first, second): (Buffer<Operand>, Buffer<Operand>)
        let (operand, state): (Buffer<Operand>, Buffer<State>)
        /// A gradient for every weight, as in a pass.
        var gradients: [ObjectIdentifier: Buffer<State>] = [:]

        init(_ products: [RecordedProduct<E.Linear>], executor: E) {
            self.executor = executor
            self.products = products
            let largest = products.map { $0.rows * max($0.linear.inputs, $0.linear.outputs) }.max() ?? 0
            (first, second) = (executor.operand(1, largest), executor.operand(1, largest))
            (operand, state) = (executor.operand(1, largest), executor.state(1, largest))
            var random = RandomSource(seed: 1)
            for index in 0..<largest { state.all[index] = random.uniform() - 0.5 }
            for buffer in [first, second] { executor.convert(state.all, into: buffer.all) }
            for product in products where gradients[ObjectIdentifier(product.linear)] == nil {
                let (rows, columns) = (product.linear.outputs, product.linear.inputs)
                gradients[ObjectIdentifier(product.linear)] = executor.state(rows, columns)
            }
        }

        func run() {
            for product in products {
                let (linear, n) = (product.linear, product.rows)
                let inputs = first.all.elements(0..<n * linear.inputs).shaped(n, linear.inputs)
                let outputs = second.all.elements(0..<n * linear.outputs).shaped(n, linear.outputs)
                func place<Role>(_ buffer: Buffer<Role>, _ columns: Int) -> Matrix<Role> {
                    buffer.all.elements(0..<n * columns).shaped(n, columns)
                }
                switch product.kind {
                case .forwardToOperand(let rectified):
                    executor.linear(inputs, linear, into: place(operand, linear.outputs), rectified: rectified)
                case .forward(accumulates: false): executor.linear(inputs, linear, into: place(state, linear.outputs))
                case .forward(accumulates: true):
                    executor.linear(inputs, linear, accumulatingInto: place(state, linear.outputs))
                case .backwardToOperand: executor.linearBackward(outputs, linear, into: place(operand, linear.inputs))
                case .backward(accumulates: false):
                    executor.linearBackward(outputs, linear, into: place(state, linear.inputs))
                case .backward(accumulates: true):
                    executor.linearBackward(outputs, linear, accumulatingInto: place(state, linear.inputs))
                case .gradient:
                    executor.linearGradients(
                        outputs, inputs, linear, accumulatingInto: gradients[ObjectIdentifier(linear)]!.all, dBias: nil)
                }
            }
        }
    }

    /// - Parameter products: those of every worker.
    init(_ products: [[RecordedProduct<E.Linear>]], makeExecutor: () -> E) {
        workers = products.map { Worker($0, executor: makeExecutor()) }
        pool = WorkerPool(count: products.count)
        operations = products.joined().reduce(0) { $0 + $1.operations }
    }

    /// All products once.
    func run() {
        let workers = workers
        pool.run { workers[$0].run() }
    }
}
