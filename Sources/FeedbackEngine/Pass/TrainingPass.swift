import FeedbackTransformer

/// Loss and gradients of a batch: the rows of the batch shared out over worker threads that meet only at the end.
///
/// Each worker takes its rows, a tile at a time, through all T steps forward and backward, and adds up its own gradient;
/// then the gradients are summed in the order of the workers, those of other processes too. So the same seed, batch and number of
/// threads in all give the same bits at every run.
package final class TrainingPass<E: Executor>: TrainingSession {
    package let shape: BatchShape
    let segmentShape: SegmentShape
    package let parameters: ParameterStore
    let pool: WorkerPool
    let workers: [Worker<E>]
    let makeExecutor: () -> E
    private let packed: PackedModel<E>
    let reduction: GradientReduction
    /// Adam's, for all workers; none where the pass only evaluates.
    private let moments: (m: ParameterStore, v: ParameterStore)?

    /// - Parameters:
    ///   - parameters: what to differentiate by, in executors' memory; the pass reads them, and `update` changes them.
    ///   - shape: of the batches.
    ///   - threads: the workers of this process to share the batch's rows, at most one a row.
    ///   - training: whether there is a gradient; without, the pass takes less memory.
    ///   - communicator: the processes that share a batch, each at least one row.
    ///   - makeExecutor: makes a worker's.
    package init(
        _ parameters: ParameterStore, _ shape: BatchShape, threads: Int, training: Bool = true,
        communicator: any Communicator = OneProcess(), makeExecutor: @escaping () -> E
    ) {
        precondition(threads > 0)
        let table = parameters.table
        let segmentShape = SegmentShape(table.configuration, shape)
        let executor = makeExecutor()
        let reduction = GradientReduction(
            communicator, threads: threads, rows: shape.batchSize, table, reach: segmentShape.reach, executor: executor)
        let executors = [executor] + reduction.own.dropFirst().map { _ in makeExecutor() }
        let packed = PackedModel(table, reach: segmentShape.reach, executor: executor)
        workers = zip(reduction.own, executors).map { number, executor in
            Worker(
                segmentShape, rows: split(0..<shape.batchSize, number, of: reduction.count), packed: packed,
                parameters: parameters, executor: executor, training: training)
        }
        pool = WorkerPool(count: workers.count)
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
        let targets = batches.reduce(0) { count, batch in count + batch.targets.count { $0 >= 0 } }
        let scale = 1 / Double(max(1, targets))
        pool.run { [workers, reduction] number in
            let worker = workers[number]
            worker.sum = CrossEntropySum()
            for block in reduction.blocks { worker.gradient!.all.elements(block.range).clear() }
            for (index, batch) in batches.enumerated() {
                worker.run(batch, scale: scale, dropout: dropout?.part(index))
            }
        }
        let partials = workers.map(\.gradient!.all)
        each(of: reduction.blocks.indices) { [reduction] blocks, executor in
            reduction.sumOwn(partials, blocks, on: executor)
        }
        for slice in 0..<(reduction.communicator.ranks > 1 ? reduction.slices : 0) {
            reduction.exchange(slice: slice, of: partials)
            each(of: reduction.slice(slice)) { [reduction] blocks, executor in
                reduction.sum(blocks, slice: slice, of: partials, on: executor)
            }
        }
        pool.run { [workers, packed, gradient, parameters, reduction] number in
            let executor = workers[number].executor
            executor.timed(.packing) {
                packed.unfoldMaps(gradient, parameters, executor, worker: number, of: workers.count, reduction.owns)
            }
        }
        pool.run { [workers, packed, gradient, parameters, reduction] number in
            let executor = workers[number].executor
            executor.timed(.packing) {
                packed.unfoldPositions(
                    gradient, parameters, executor, worker: number, of: workers.count, reduction.owns)
            }
        }
        return reduction.sum(workers.map(\.sum))
    }

    /// Shares out blocks of parameters among the workers, who take the time for the optimizer's.
    private func each(of blocks: Range<Int>, _ body: @Sendable (Range<Int>, E) -> Void) {
        pool.run { [workers] number in
            let executor = workers[number].executor
            executor.timed(.optimizer) { body(split(blocks, number, of: workers.count), executor) }
        }
    }

    package func loss(of batch: Batch) -> CrossEntropySum {
        check(batch)
        pool.run { [workers] number in
            workers[number].sum = CrossEntropySum()
            workers[number].run(batch, scale: nil, dropout: nil)
        }
        return reduction.sum(workers.map(\.sum))
    }

    private func check(_ batch: Batch) {
        precondition(batch.steps == shape.steps && batch.rows == shape.batchSize, "the batch is of another shape")
    }

    // MARK: What follows a batch

    package func gradientNorm() -> Double {
        pool.run { [workers, gradient, reduction] number in
            let worker = workers[number]
            worker.executor.timed(.optimizer) {
                worker.squares = reduction.blocks[split(reduction.shard, number, of: workers.count)].map {
                    worker.executor.sumOfSquares(gradient.all.elements($0.range))
                }
            }
        }
        return reduction.communicator.allGather(workers.flatMap(\.squares)).joined().reduce(0, +).squareRoot()
    }

    package func update(_ step: AdamStep, decay: Double) {
        guard let moments else { preconditionFailure("a pass that evaluates has nothing to update") }
        each(of: reduction.shard) { [reduction, gradient, parameters] blocks, executor in
            for block in reduction.blocks[blocks] {
                executor.adam(
                    parameters.all.elements(block.range), gradient: gradient.all.elements(block.range),
                    m: moments.m.all.elements(block.range), v: moments.v.all.elements(block.range), step: step,
                    decay: block.decays ? decay : 0)
            }
        }
        reduction.gather(parameters.all)
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

    /// Of what each rank has a shard of, the whole.
    package func read(_ what: Trained) -> Parameters {
        var values = store(what).host
        if what != .parameters { reduction.gather(&values.values) }
        return values
    }

    package func collect(_ what: Trained) -> Parameters? { reduction.collect(store(what)) }

    /// Memory that is never written takes none: of the moments a rank has its shard's alone.
    package func write(_ values: Parameters, to what: Trained) {
        store(what).write(values, what == .parameters ? 0..<values.values.count : reduction.whole)
        if what == .parameters { parametersChanged() }
    }

    package func logits(_ inputs: [Int32]) -> [Float] {
        precondition(reduction.communicator.ranks == 1, "each rank has its own rows alone")
        let batch = Batch(steps: shape.steps, rows: shape.batchSize, inputs: inputs, targets: inputs)
        let vocabulary = segmentShape.model.vocabulary
        var logits = Array(repeating: Float(0), count: inputs.count * vocabulary)
        for worker in workers {
            for tile in worker.tiles {
                let values = worker.segment.forward(tile, tokens: batch.select(inputs, tile.rows)).floatValues
                for n in 0..<shape.steps * tile.rows.count {
                    let row = n / tile.rows.count * shape.batchSize + tile.rows.lowerBound + n % tile.rows.count
                    logits.replaceSubrange(
                        row * vocabulary..<(row + 1) * vocabulary,
                        with: values[n * vocabulary..<(n + 1) * vocabulary])
                }
            }
        }
        return logits
    }
}
