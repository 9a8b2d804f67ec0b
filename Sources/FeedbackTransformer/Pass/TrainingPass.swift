import FeedbackEngine

/// Loss and gradients of a batch: the rows of the batch shared out over worker threads that meet only at the end.
///
/// Each worker takes its rows, a tile at a time, through all T steps forward and backward, and adds up its own gradient;
/// then the gradients are summed in the order of the workers. So the same seed, batch and number of threads give the
/// same bits at every run.
///
/// ```swift
/// let pass = TrainingPass(model, steps: 64, batchSize: 12, threads: 2)
/// pass.parametersChanged()
/// let sum = pass.run(inputs: inputs, targets: targets)      // [T, B] each, time-major
/// print(sum.loss / Double(sum.targets), pass.gradient["generator.bias"])
/// ```
public final class TrainingPass {
    public let shape: SegmentShape
    public let batchSize: Int
    public let parameters: ParameterStore
    public let pool: WorkerPool
    /// The gradient of the mean loss, after `run`.
    public var gradient: ParameterStore { gradients[0] }
    /// What training changes, as ranges of the flat array of all parameters: a list for each worker, its share.
    public let shares: [[(range: Range<Int>, decays: Bool)]]
    let executors: [any Executor]
    private let packed: PackedModel
    let segments: [Segment]
    let tiles: [[Tile]]
    private let gradients: [ParameterStore]

    /// On the CPU.
    ///
    /// - Parameters:
    ///   - model: the parameters to differentiate by; the pass reads them, and `adam` changes them.
    ///   - steps: T, the sequence length.
    ///   - batchSize: B, the sequences of a batch.
    ///   - carry: how many memories are carried from one batch to the next, which must continue it; 0 for none.
    ///   - memoryWindow: the memories a step sees at most, where fewer than the model's own window.
    ///   - threads: the workers to share the batch's rows, at most one a row.
    ///   - forwardOnly: whether the pass only evaluates; it then takes less memory.
    ///   - precision: of operands; parameters, residual stream and gradients are float32. It must be supported.
    public convenience init(
        _ model: FeedbackModel, steps: Int, batchSize: Int, carry: Int = 0, memoryWindow: Int? = nil, threads: Int,
        forwardOnly: Bool = false, precision: Precision = .float32
    ) {
        self.init(
            model.parameters, steps: steps, batchSize: batchSize, carry: carry, memoryWindow: memoryWindow,
            threads: threads, forwardOnly: forwardOnly
        ) { CPUExecutor(precision) }
    }

    /// With any executor, for parameters of its type.
    public init(
        _ parameters: ParameterStore, steps: Int, batchSize: Int, carry: Int = 0, memoryWindow: Int? = nil,
        threads: Int, forwardOnly: Bool = false, makeExecutor: () -> any Executor
    ) {
        precondition(steps > 0 && batchSize > 0 && threads > 0 && carry >= 0 && (memoryWindow ?? 1) > 0)
        let table = parameters.table
        let window = min(memoryWindow ?? .max, table.configuration.window)
        let shape = SegmentShape(model: table.configuration, steps: steps, carry: min(carry, window), window: window)
        let workers = min(threads, batchSize)
        let executors = (0..<workers).map { _ in makeExecutor() }
        let packed = PackedModel(table, reach: shape.reach, executor: executors[0])
        // Each worker's rows, cut into tiles of nearly equal size.
        let tiles = executors.enumerated().map { worker, executor in
            let rows = batchSize * worker / workers..<batchSize * (worker + 1) / workers
            let count = (rows.count + shape.tileRows - 1) / shape.tileRows
            return (0..<count).map { tile in
                let own = rows.count * tile / count..<rows.count * (tile + 1) / count
                return Tile(
                    shape, rows: rows.lowerBound + own.lowerBound..<rows.lowerBound + own.upperBound, executor: executor
                )
            }
        }
        segments = zip(executors, tiles).map { executor, tiles in
            Segment(
                shape, rows: tiles.map(\.rows.count).max()!, packed: packed, parameters: parameters,
                training: !forwardOnly, executor: executor)
        }
        gradients = forwardOnly ? [] : executors.map { ParameterStore(table, executor: $0) }
        shares = split(table.trainable(reach: shape.reach), into: workers)
        pool = WorkerPool(count: workers)
        self.executors = executors
        self.packed = packed
        self.tiles = tiles
        self.shape = shape
        self.batchSize = batchSize
        self.parameters = parameters
    }

    /// Must be called before the first `run` and whenever the parameters have changed.
    public func parametersChanged() {
        packed.pack(parameters, executors: executors, pool: pool)
    }

    /// Forward and backward over one batch; afterwards `gradient` holds the gradient of the mean loss.
    ///
    /// - Parameters:
    ///   - inputs: tokens, [T, B] time-major.
    ///   - targets: the tokens to predict, [T, B]; a negative one is left out of the loss.
    ///   - dropout: what to drop; another seed for every step.
    public func run(inputs: [Int32], targets: [Int32], dropout: Dropout? = nil) -> CrossEntropySum {
        run([(inputs, targets)], dropout: dropout)
    }

    /// Forward and backward over several batches, one after the other; afterwards `gradient` holds the gradient of the
    /// mean loss over all their targets, as if they had been one batch.
    public func run(
        _ batches: [(inputs: [Int32], targets: [Int32])], dropout: Dropout? = nil
    ) -> CrossEntropySum {
        precondition(!gradients.isEmpty, "a forward-only pass has no gradient")
        let targets = batches.reduce(0) { count, batch in count + batch.targets.count { $0 >= 0 } }
        let sum = sumOverWorkers { pass, worker in
            for part in pass.shares.joined() { pass.gradients[worker].all.elements(part.range).clear() }
            return batches.enumerated().reduce(into: CrossEntropySum()) { sum, batch in
                sum += pass.run(
                    worker, inputs: batch.element.inputs, targets: batch.element.targets,
                    scale: 1 / Double(max(1, targets)), dropout: dropout?.part(batch.offset))
            }
        }
        let work = Unchecked(self)
        pool.run { worker in work.value.sumGradients(worker) }
        packed.unfold(gradient, parameters: parameters, executors: executors, pool: pool)
        return sum
    }

    /// The loss of one batch, forward only.
    public func evaluate(inputs: [Int32], targets: [Int32]) -> CrossEntropySum {
        sumOverWorkers { $0.run($1, inputs: inputs, targets: targets, scale: nil, dropout: nil) }
    }

    /// Forgets the carried memories: the next batch begins anew.
    public func forget() {
        for tile in tiles.joined() { tile.carried = 0 }
    }

    private func sumOverWorkers(
        _ body: @Sendable (TrainingPass, _ worker: Int) -> CrossEntropySum
    ) -> CrossEntropySum {
        var sums = Array(repeating: CrossEntropySum(), count: pool.count)
        sums.withUnsafeMutableBufferPointer { sums in
            let work = Unchecked((pass: self, sums: sums))
            pool.run { worker in work.value.sums[worker] = body(work.value.pass, worker) }
        }
        return sums.reduce(into: CrossEntropySum()) { $0 += $1 }
    }

    /// The logits of a batch, [T, B, V], forward only.
    public func logits(inputs: [Int32]) -> [Double] {
        let vocabulary = shape.model.vocabulary
        var logits = Array(repeating: 0.0, count: inputs.count * vocabulary)
        for (segment, tile) in zip(segments, tiles).flatMap({ segment, tiles in tiles.map { (segment, $0) } }) {
            let values = segment.forward(tile, tokens: select(inputs, tile.rows)).values
            for n in 0..<shape.steps * tile.rows.count {
                let row = n / tile.rows.count * batchSize + tile.rows.lowerBound + n % tile.rows.count
                logits.replaceSubrange(
                    row * vocabulary..<(row + 1) * vocabulary, with: values[n * vocabulary..<(n + 1) * vocabulary])
            }
        }
        return logits
    }

    /// One worker's tiles: forward, and where a scale of the loss is given, backward.
    private func run(
        _ worker: Int, inputs: [Int32], targets: [Int32], scale: Double?, dropout: Dropout?
    ) -> CrossEntropySum {
        precondition(inputs.count == shape.steps * batchSize && targets.count == inputs.count)
        let segment = segments[worker]
        var sum = CrossEntropySum()
        for tile in tiles[worker] {
            let tokens = select(inputs, tile.rows)
            let logits = segment.forward(tile, tokens: tokens, dropout: dropout)
            sum += executors[worker].crossEntropy(  // E10
                logits, targets: select(targets, tile.rows), scale: scale ?? 0, into: logits)
            if scale != nil {
                segment.backward(
                    tile, tokens: tokens, dLogits: logits, dropout: dropout, accumulatingInto: gradients[worker])
            }
            segment.carry(tile)
        }
        return sum
    }

    /// One worker's share of gradients[0] += gradients[1] + …, in that order.
    private func sumGradients(_ worker: Int) {
        for part in shares[worker] {
            let sum = gradients[0].all.elements(part.range)
            for other in gradients.dropFirst() {
                executors[worker].add(other.all.elements(part.range), accumulatingInto: sum)
            }
        }
    }

    /// The columns of [T, B] that belong to some rows of the batch, still time-major.
    private func select(_ tokens: [Int32], _ rows: Range<Int>) -> [Int32] {
        (0..<shape.steps).flatMap { t in tokens[t * batchSize + rows.lowerBound..<t * batchSize + rows.upperBound] }
    }
}

extension SegmentShape {
    /// Rows that go through a segment together. In the recurrence, enough that a product is not bound by reading its
    /// weights, few enough that what is kept stays small; in a parallel pass all steps already fill a product.
    package var tileRows: Int { routesFeedback ? 16 : max(1, 512 / steps) }
}

/// A value handed to worker threads that keep to their own parts of it.
struct Unchecked<Value>: @unchecked Sendable {
    let value: Value
    init(_ value: Value) { self.value = value }
}

/// Cuts ranges into `count` lists of nearly equal total length, in order.
func split(_ parts: [(range: Range<Int>, decays: Bool)], into count: Int) -> [[(range: Range<Int>, decays: Bool)]] {
    let total = parts.reduce(0) { $0 + $1.range.count }
    return (0..<count).map { share in
        let wanted = total * share / count..<total * (share + 1) / count
        var before = 0
        return parts.compactMap { part in
            defer { before += part.range.count }
            let own = wanted.clamped(to: before..<before + part.range.count)
            if own.isEmpty { return nil }
            let shift = part.range.lowerBound - before
            return (own.lowerBound + shift..<own.upperBound + shift, part.decays)
        }
    }
}

// MARK: What follows a batch

extension TrainingPass {
    /// ‖g‖₂ over the gradient of everything that training changes (E11).
    public func gradientNorm() -> Double {
        var sums = Array(repeating: 0.0, count: pool.count)
        sums.withUnsafeMutableBufferPointer { sums in
            let work = Unchecked((pass: self, sums: sums))
            pool.run { worker in
                let pass = work.value.pass
                work.value.sums[worker] = pass.shares[worker].reduce(0) {
                    $0 + pass.executors[worker].sumOfSquares(pass.gradient.all.elements($1.range))
                }
            }
        }
        return sums.reduce(0, +).squareRoot()
    }

    /// One Adam update (E12) of everything that training changes, and the parameters packed anew.
    ///
    /// - Parameters:
    ///   - m: the first moments, zero at first.
    ///   - v: the second moments, zero at first.
    ///   - step: the update's number, learning rate and other constants.
    ///   - decay: λ, for the parameters that decay.
    public func adam(m: ParameterStore, v: ParameterStore, step: AdamStep, decay: Double) {
        let work = Unchecked((pass: self, m: m, v: v))
        pool.run { worker in
            let pass = work.value.pass
            for part in pass.shares[worker] {
                pass.executors[worker].adam(
                    pass.parameters.all.elements(part.range), gradient: pass.gradient.all.elements(part.range),
                    m: work.value.m.all.elements(part.range), v: work.value.v.all.elements(part.range), step: step,
                    decay: part.decays ? decay : 0)
            }
        }
        parametersChanged()
    }
}
