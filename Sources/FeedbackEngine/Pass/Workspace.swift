import FeedbackTransformer

/// Everything that one worker computes in while it takes rows through a segment, forward and backward. Allocated once.
///
/// Everything is time-major: the rows of step t are t·R ..< (t+1)·R.
final class Workspace<E: Executor> {
    let shape: SegmentShape
    /// R: rows at a time, at most.
    let rows: Int
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
        self.rows = rows
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

/// The sizes of a segment: T steps of a model, after up to `carry` memories carried over from the segment before.
struct SegmentShape: Equatable, Sendable {
    let model: ModelConfiguration
    /// T.
    let steps: Int
    let carry: Int
    /// M.
    let window: Int

    init(_ model: ModelConfiguration, _ batch: BatchShape) {
        self.model = model
        steps = batch.steps
        window = min(batch.memoryWindow ?? .max, model.window)
        carry = min(batch.carry, window)
    }

    /// Slots of a cache.
    var slots: Int { carry + steps }
    /// The farthest offset at which a step can see a memory.
    var reach: Int { min(window, slots) }
    var isRecurrent: Bool { model.isRecurrent }
    /// Steps that run at once: one where the next needs its cache, else all.
    var block: Int { isRecurrent ? 1 : steps }
    /// Steps of a chunk: when its last block is done, what its steps add to the gradients of earlier memories is summed. They
    /// are few, so that what they have written is still in the nearer caches.
    var chunk: Int { isRecurrent ? min(steps, 8) : steps }
    /// Steps of a span: chunks of up to 384 rows in all. When the last one is done, the gradients of weights are computed; each
    /// is read and written then, and only then.
    func span(rows: Int) -> Int { min(steps, chunk * max(1, 384 / (chunk * rows))) }
    var caches: Int { model.caches }
    /// Different memory vectors of a step: one that all layers see, or one a layer.
    var vectors: Int { isRecurrent ? 1 : model.layers }
    /// Rows that go through a segment together, at most. In the recurrence, enough that a product is not bound by reading its
    /// weights, few enough that what is kept stays small; in a parallel pass all steps already fill a product.
    var tileRows: Int { isRecurrent ? 16 : max(1, 512 / steps) }
}
