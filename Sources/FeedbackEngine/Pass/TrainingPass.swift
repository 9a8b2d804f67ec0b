import FeedbackTransformer

/// Loss and gradients of a batch: the rows of the batch shared out over worker threads that meet only at the end.
///
/// Each worker takes its rows, a tile at a time, through all T steps forward and backward, and adds up its own gradient;
/// then the gradients are summed in the order of the workers. So the same seed, batch and number of threads give the
/// same bits at every run.
package final class TrainingPass<E: Executor>: TrainingSession {
    package let shape: BatchShape
    let segmentShape: SegmentShape
    package let parameters: ParameterStore
    let pool: WorkerPool
    let workers: [Worker<E>]
    let makeExecutor: () -> E
    private let packed: PackedModel<E>
    private let reduction: any GradientReduction
    /// Adam's, for all workers; none where the pass only evaluates.
    private let moments: (m: ParameterStore, v: ParameterStore)?

    /// - Parameters:
    ///   - parameters: what to differentiate by, in executors' memory; the pass reads them, and `update` changes them.
    ///   - shape: of the batches.
    ///   - threads: the workers to share the batch's rows, at most one a row.
    ///   - training: whether there is a gradient; without, the pass takes less memory.
    ///   - reduction: what sums the workers' gradients.
    ///   - makeExecutor: makes a worker's.
    package init(
        _ parameters: ParameterStore, _ shape: BatchShape, threads: Int, training: Bool = true,
        reduction: any GradientReduction = OneMachine(), makeExecutor: @escaping () -> E
    ) {
        precondition(threads > 0)
        let (table, count) = (parameters.table, min(threads, shape.batchSize))
        let segmentShape = SegmentShape(table.configuration, shape)
        let executors = (0..<count).map { _ in makeExecutor() }
        let packed = PackedModel(table, reach: segmentShape.reach, executor: executors[0])
        let shares = split(table.trainable(reach: segmentShape.reach), into: count)
        workers = executors.enumerated().map { number, executor in
            Worker(
                segmentShape, rows: shape.batchSize * number / count..<shape.batchSize * (number + 1) / count,
                packed: packed, parameters: parameters, executor: executor, training: training, share: shares[number])
        }
        pool = WorkerPool(count: count)
        moments =
            training
            ? (ParameterStore(table, executor: executors[0]), ParameterStore(table, executor: executors[0])) : nil
        self.packed = packed
        self.shape = shape
        self.segmentShape = segmentShape
        self.parameters = parameters
        self.reduction = reduction
        self.makeExecutor = makeExecutor
    }

    /// The gradient of the mean loss, after `gradient(of:dropout:)`.
    package var gradient: ParameterStore {
        guard let gradient = workers[0].gradient else { preconditionFailure("a pass that evaluates has no gradient") }
        return gradient
    }

    /// Must be called before the first batch and whenever the parameters have been changed from outside.
    package func parametersChanged() {
        pool.run { [workers, packed, parameters] worker in
            let executor = workers[worker].executor
            executor.timed(.packing) { packed.pack(parameters, executor, worker: worker, of: workers.count) }
        }
    }

    // MARK: A batch

    package func gradient(of batches: [Batch], dropout: Dropout? = nil) -> CrossEntropySum {
        for batch in batches { check(batch) }
        let own = batches.reduce(0) { count, batch in count + batch.targets.count { $0 >= 0 } }
        let scale = 1 / Double(max(1, reduction.sum(targets: own)))
        pool.run { [workers] number in
            let worker = workers[number]
            worker.sum = CrossEntropySum()
            for other in workers { for part in other.share { worker.gradient!.all.elements(part.range).clear() } }
            for (index, batch) in batches.enumerated() {
                worker.run(batch, scale: scale, dropout: dropout?.part(index))
            }
        }
        pool.run { [workers, reduction] number in
            let worker = workers[number]
            worker.executor.timed(.optimizer) {
                reduction.sum(workers.map(\.gradient!.all), worker.share.map(\.range), on: worker.executor)
            }
        }
        pool.run { [workers, packed, gradient, parameters] number in
            let executor = workers[number].executor
            executor.timed(.packing) {
                packed.unfoldMaps(gradient, parameters, executor, worker: number, of: workers.count)
            }
        }
        pool.run { [workers, packed, gradient, parameters] number in
            let executor = workers[number].executor
            executor.timed(.packing) {
                packed.unfoldPositions(gradient, parameters, executor, worker: number, of: workers.count)
            }
        }
        return reduction.sum(sumOfLosses)
    }

    package func loss(of batch: Batch) -> CrossEntropySum {
        check(batch)
        pool.run { [workers] number in
            workers[number].sum = CrossEntropySum()
            workers[number].run(batch, scale: nil, dropout: nil)
        }
        return reduction.sum(sumOfLosses)
    }

    private var sumOfLosses: CrossEntropySum { workers.reduce(into: CrossEntropySum()) { $0 += $1.sum } }

    private func check(_ batch: Batch) {
        precondition(batch.steps == shape.steps && batch.rows == shape.batchSize, "the batch is of another shape")
    }

    // MARK: What follows a batch

    package func gradientNorm() -> Double {
        pool.run { [workers, gradient] number in
            let worker = workers[number]
            worker.executor.timed(.optimizer) {
                worker.squares = worker.share.reduce(0) {
                    $0 + worker.executor.sumOfSquares(gradient.all.elements($1.range))
                }
            }
        }
        return workers.reduce(0) { $0 + $1.squares }.squareRoot()
    }

    package func update(_ step: AdamStep, decay: Double) {
        guard let moments else { preconditionFailure("a pass that evaluates has nothing to update") }
        pool.run { [workers, gradient, parameters] number in
            let worker = workers[number]
            worker.executor.timed(.optimizer) {
                for part in worker.share {
                    worker.executor.adam(
                        parameters.all.elements(part.range), gradient: gradient.all.elements(part.range),
                        m: moments.m.all.elements(part.range), v: moments.v.all.elements(part.range), step: step,
                        decay: part.decays ? decay : 0)
                }
            }
        }
        parametersChanged()
    }

    // MARK: What the host sees

    private func store(_ what: Trained) -> ParameterStore {
        switch what {
        case .parameters: return parameters
        case .gradient: return gradient
        case .firstMoment, .secondMoment:
            guard let moments else { preconditionFailure("a pass that evaluates has no moments") }
            return what == .firstMoment ? moments.m : moments.v
        }
    }

    package func read(_ what: Trained) -> Parameters { store(what).host }

    package func write(_ values: Parameters, to what: Trained) {
        store(what).host = values
        if what == .parameters { parametersChanged() }
    }

    package func logits(_ inputs: [Int32]) -> [Float] {
        let batch = Batch(steps: shape.steps, rows: shape.batchSize, inputs: inputs, targets: inputs)
        let vocabulary = segmentShape.model.vocabulary
        var logits = Array(repeating: Float(0), count: inputs.count * vocabulary)
        for worker in workers {
            for tile in worker.tiles {
                let values = worker.segment.forward(tile, tokens: batch.select(inputs, tile.rows)).values
                for n in 0..<shape.steps * tile.rows.count {
                    let row = n / tile.rows.count * shape.batchSize + tile.rows.lowerBound + n % tile.rows.count
                    logits.replaceSubrange(
                        row * vocabulary..<(row + 1) * vocabulary,
                        with: values[n * vocabulary..<(n + 1) * vocabulary].lazy.map(Float.init))
                }
            }
        }
        return logits
    }
}

// MARK: Sums over workers and machines

/// Sums what all workers have computed of a batch's loss and gradient, on however many machines, always in the same order.
///
/// It comes between the workers' sums and `PackedModel.unfold`, where gradients are still linear.
package protocol GradientReduction: Sendable {
    /// The machines that share a batch.
    var ranks: Int { get }
    /// The targets of all machines together: what the mean loss is the mean over.
    func sum(targets: Int) -> Int
    func sum(_ loss: CrossEntropySum) -> CrossEntropySum
    /// One worker's part of the sum of all partial gradients, in the order of the workers, into this machine's first.
    func sum(_ partials: [Matrix<State>], _ ranges: [Range<Int>], on executor: some Executor)
}

/// All workers are in this process.
package struct OneMachine: GradientReduction {
    package init() {}
    package var ranks: Int { 1 }
    package func sum(targets: Int) -> Int { targets }
    package func sum(_ loss: CrossEntropySum) -> CrossEntropySum { loss }
    package func sum(_ partials: [Matrix<State>], _ ranges: [Range<Int>], on executor: some Executor) {
        for range in ranges {
            for other in partials.dropFirst() {
                executor.add(other.elements(range), accumulatingInto: partials[0].elements(range))
            }
        }
    }
}
