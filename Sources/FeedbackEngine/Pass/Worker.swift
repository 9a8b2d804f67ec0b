import FeedbackTransformer

/// What one thread of a pass has for its own: its rows of the batch, cut into tiles, and all that it computes in.
///
/// While a job runs it belongs to the thread of its number alone, and between jobs to whoever owns the pass; so it needs no
/// lock, and what is written by one is read by the other only after the pool's barrier.
final class Worker<E: Executor>: @unchecked Sendable {
    let executor: E
    let segment: Segment<E>
    let tiles: [Tile]
    /// Its partial gradient; none where the pass only evaluates.
    let gradient: ParameterStore?
    /// Of the last job: what its rows have cost, and the sums of squares of its blocks of the gradient.
    var sum = CrossEntropySum(), squares: [Double] = []

    init(
        _ shape: SegmentShape, rows: Range<Int>, packed: PackedModel<E>, parameters: ParameterStore, executor: E,
        training: Bool
    ) {
        // Tiles of nearly equal size.
        let count = (rows.count + shape.tileRows - 1) / shape.tileRows
        tiles = (0..<count).map { Tile(shape, rows: split(rows, $0, of: count), executor: executor) }
        segment = Segment(
            shape, rows: tiles.map(\.rows.count).max()!, packed: packed, parameters: parameters, training: training,
            executor: executor)
        gradient = training ? ParameterStore(parameters.table, executor: executor) : nil
        self.executor = executor
    }

    /// Adds to the sum what its tiles make of a batch: forward, and where a scale of the loss is given, backward.
    ///
    /// All that takes time lies below. A session is called through its protocol, from where the compiler sees no executor; so it
    /// is told to compile this, and what it calls, for the fast one.
    @_specialize(where E == CPUExecutor)
    func run(_ batch: Batch, scale: Double?, dropout: Dropout?) {
        for tile in tiles {
            let tokens = batch.select(batch.inputs, tile.rows)
            let logits = segment.forward(tile, tokens: tokens, dropout: dropout)
            executor.timed(.embeddingAndLoss) {
                sum += executor.crossEntropy(  // E10
                    logits, targets: batch.select(batch.targets, tile.rows), scale: scale ?? 0, into: logits)
            }
            if scale != nil {
                segment.backward(tile, tokens: tokens, dLogits: logits, dropout: dropout, accumulatingInto: gradient!)
            }
            segment.carry(tile)
        }
    }
}

/// Everything that one worker computes in while it takes rows through a segment, forward and backward. Allocated once.
///
/// Everything is time-major: of R rows of a batch, at most as many as it is made for, those of step t are t·R ..< (t+1)·R.
final class Workspace<E: Executor> {
    let shape: SegmentShape
    /// Steps of a span (Documentation/Vocabulary.md).
    let span: Int

    // Forward, for all T steps.
    /// x_l, the residual stream after layer l; l = 0 is the embedding.
    let x: [Matrix<State>]
    let attention: [AttentionStash]
    let feedForward: [FeedForwardStash]
    /// Keys and values: one cache that all layers read, or one a layer.
    let caches: [E.Cache]
    /// r of the memory vectors' LayerNorm; none where they are not normalised.
    let memoryInverseDeviation: [Matrix<State>]
    let normalized: Matrix<Operand>
    let inverseDeviation: Matrix<State>
    let logits: Matrix<State>
    /// Scratch: m or dm of one step.
    let memory: Matrix<State>
    /// Scratch: keys and values on their way into a cache.
    let keysValues: Matrix<State>

    // Backward: dx, dLogits and dNormalized for all T steps, the deltas and dKeysValues for a span.
    let dx: Matrix<State>
    let dLogits: Matrix<Operand>
    let dNormalized: Matrix<State>
    let attentionDeltas: [AttentionDeltas]
    let feedForwardDeltas: [FeedForwardDeltas]
    /// [span·R, 2D] for every cache.
    let dKeysValues: [Matrix<Operand>]
    let positionGradients: [PositionGradients]
    private let buffers: [AnyObject]

    init(_ shape: SegmentShape, rows: Int, training: Bool, executor: E) {
        let model = shape.model
        let (D, F, H, L) = (model.dModel, model.dFF, model.heads, model.layers)
        let all = shape.steps * rows
        let block = max(shape.block * rows, shape.carry * rows)
        let span = shape.span(rows: rows)
        let deltas = span * rows
        var buffers: [AnyObject] = []
        func state(_ rows: Int, _ columns: Int) -> Matrix<State> {
            let buffer = executor.state(rows, columns)
            buffers.append(buffer)
            return buffer.all
        }
        func operand(_ rows: Int, _ columns: Int) -> Matrix<Operand> {
            let buffer = executor.operand(rows, columns)
            buffers.append(buffer)
            return buffer.all
        }
        let scores = executor.scoreColumns(slots: shape.slots)
        self.shape = shape
        self.span = span
        x = (0...L).map { _ in state(all, D) }
        normalized = operand(all, D)
        inverseDeviation = state(all, 1)
        logits = state(all, model.vocabulary)
        memory = state(rows, D)
        keysValues = state(block, 2 * D)
        attention = (0..<L).map { _ in
            AttentionStash(
                normalized: operand(all, D), inverseDeviation: state(all, 1), query: operand(all, D),
                probabilities: operand(all * H, scores), context: operand(all, D))
        }
        feedForward = (0..<L).map { _ in
            FeedForwardStash(normalized: operand(all, D), inverseDeviation: state(all, 1), hidden: operand(all, F))
        }
        caches = (0..<shape.caches).map { _ in
            executor.makeCache(
                rows: rows, slots: shape.slots, heads: H, headSize: model.headSize, training: training)
        }
        memoryInverseDeviation = (0..<(model.memoryNorm == .layer ? shape.vectors : 0)).map { _ in state(all, 1) }
        // Without training there is none of this.
        let trained = training ? 0..<L : 0..<0
        dx = state(training ? all : 0, D)
        dLogits = operand(training ? all : 0, model.vocabulary)
        dNormalized = state(training ? all : 0, D)
        attentionDeltas = trained.map { _ in
            AttentionDeltas(
                output: operand(deltas, D), context: operand(deltas, D), scores: operand(deltas * H, scores),
                query: operand(deltas, D))
        }
        feedForwardDeltas = trained.map { _ in
            FeedForwardDeltas(output: operand(deltas, D), hidden: operand(deltas, F))
        }
        positionGradients = trained.map { _ in
            executor.makePositionGradients(heads: H, headSize: model.headSize, reach: shape.reach)
        }
        dKeysValues = (training ? 0..<shape.caches : 0..<0).map { _ in
            operand(max(deltas, shape.carry * rows), 2 * D)
        }
        self.buffers = buffers
    }
}

extension Batch {
    /// The columns of [T, B] that belong to some rows of the batch, still time-major.
    func select(_ tokens: [Int32], _ rows: Range<Int>) -> [Int32] {
        (0..<steps).flatMap { t in tokens[t * self.rows + rows.lowerBound..<t * self.rows + rows.upperBound] }
    }
}

/// One of `count` parts of nearly equal size.
func split(_ range: Range<Int>, _ number: Int, of count: Int) -> Range<Int> {
    let start = range.lowerBound
    return start + range.count * number / count..<start + range.count * (number + 1) / count
}
