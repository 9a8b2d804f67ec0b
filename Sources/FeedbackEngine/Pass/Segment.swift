import FeedbackTransformer

// The model over the T steps of a segment, forward. Steps 1–4 and E1–E14 are those of Documentation/Equations.md.
//
//   for all steps t        1   x_0 = E[token]                                                              E1
//   for t = 0 … T − 1      2   for l = 0 … L − 1:  x_{l+1} = x_l + attention of x_l over memories j < t    E8
//                                                  x_{l+1} += feed-forward of x_{l+1}                      E4
//                          3   m = Σ_l a_l x_l,  n = LayerNorm(m)                                          E9, E2
//                              k = Wk n,  v = Wv n:  memory t                                              E3
//   for all steps t        4   logits = Wg LayerNorm(x_L) + b_g                                            E2, E3
//
// A `per-layer` model does step 3 for each layer, with m = x_l, before that layer's step 2, for all t at once. The backward
// pass (Segment+Backward.swift) does 4, then 3 and 2 from the last t to the first, then 1.

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

/// Some rows of the batch, and what they carry from one segment to the next.
final class Tile {
    /// Which rows of the batch.
    let rows: Range<Int>
    /// The memory vectors m of the carried slots, then of the segment's steps: [(carry + T)·R, D], one for all layers or
    /// one a layer; normalised where the model says so.
    let vectors: [Matrix<Operand>]
    /// Slots carried over from the segment before.
    var carried = 0
    private let buffers: [Buffer<Operand>]

    init(_ shape: SegmentShape, rows: Range<Int>, executor: some Executor) {
        self.rows = rows
        buffers = (0..<shape.vectors).map { _ in executor.operand(shape.slots * rows.count, shape.model.dModel) }
        vectors = buffers.map(\.all)
    }
}

/// One worker's pass over a segment: T steps of a tile's rows, forward and backward.
///
/// In a feedback model a block is one step, and every block waits for the memory of the one before. In a `per-layer`
/// model a block is all T steps: the ordinary transformer. The code is the same.
final class Segment<E: Executor> {
    let executor: E
    let workspace: Workspace<E>
    let packed: PackedModel<E>
    let parameters: ParameterStore
    var shape: SegmentShape { workspace.shape }
    var model: ModelConfiguration { workspace.shape.model }

    init(
        _ shape: SegmentShape, rows: Int, packed: PackedModel<E>, parameters: ParameterStore, training: Bool,
        executor: E
    ) {
        self.executor = executor
        self.packed = packed
        self.parameters = parameters
        workspace = Workspace(shape, rows: rows, training: training, executor: executor)
    }

    func ranges(of steps: Range<Int>, by length: Int) -> [Range<Int>] {
        stride(from: steps.lowerBound, to: steps.upperBound, by: length).map {
            $0..<min($0 + length, steps.upperBound)
        }
    }

    /// The rows of a range of steps.
    func rows(_ steps: Range<Int>, of tile: Tile) -> Range<Int> {
        steps.lowerBound * tile.rows.count..<steps.upperBound * tile.rows.count
    }

    /// The steps of a range that see at least one memory: all but the very first.
    func attending(_ steps: Range<Int>, _ tile: Tile) -> Range<Int> {
        max(steps.lowerBound, min(steps.upperBound, 1 - tile.carried))..<steps.upperBound
    }

    /// What the steps of a range see.
    func visibility(_ steps: Range<Int>, _ tile: Tile) -> Visibility {
        Visibility(before: tile.carried + steps.lowerBound, window: shape.reach)
    }

    /// Dropout in a layer, for a range of steps.
    func dropout(_ dropout: Dropout?, layer: Int, _ steps: Range<Int>, _ tile: Tile) -> BlockDropout? {
        dropout.map {
            var part = $0.part(layer)
            part.firstRow = tile.rows.lowerBound
            return BlockDropout(
                layer: part, step: steps.lowerBound, rows: tile.rows.count, branch: workspace.dNormalized)
        }
    }

    func cache(layer: Int) -> E.Cache { workspace.caches[workspace.caches.count == 1 ? 0 : layer] }
    func keyValue(cache: Int) -> E.Linear { packed.keyValue[packed.keyValue.count == 1 ? 0 : cache].packed }

    /// The slots that a range of steps fills.
    func slots(_ steps: Range<Int>, _ tile: Tile) -> Range<Int> {
        tile.carried + steps.lowerBound..<tile.carried + steps.upperBound
    }

    /// The vectors that a cache's keys and values are made from, for a range of slots.
    func vectors(cache: Int, slots: Range<Int>, _ tile: Tile) -> Matrix<Operand> {
        tile.vectors[tile.vectors.count == 1 ? 0 : cache].rows(rows(slots, of: tile))
    }

    // MARK: Forward

    /// Takes the tile's tokens, [T·R] time-major, to logits, [T·R, V].
    func forward(_ tile: Tile, tokens: [Int32], dropout: Dropout? = nil) -> Matrix<State> {
        let all = rows(0..<shape.steps, of: tile)
        precondition(tokens.count == all.count)
        for cache in workspace.caches { cache.rows = tile.rows.count }
        let weights = packed.memoryWeights(parameters)

        // 3, for the memories carried over: their keys and values anew, with the weights as they are now.
        for cache in 0..<shape.caches { appendKeysValues(cache, slots: 0..<tile.carried, tile) }

        // 1, and the first layer's queries: they need no cache, so all steps' are computed at once.
        executor.timed(.embeddingAndLoss) {
            executor.embed(tokens, table: parameters.matrix("src_embed.weight"), into: workspace.x[0].rows(all))  // E1
        }
        let first = rows(attending(0..<shape.steps, tile), of: tile)
        executor.query(workspace.x[0].rows(first), packed.layers[0], keeping: workspace.attention[0].rows(first))  // E8

        // 2 and 3, a block of steps at a time.
        for block in ranges(of: 0..<shape.steps, by: shape.block) {
            let rows = rows(block, of: tile)
            let slots = slots(block, tile)
            for l in 0..<model.layers {
                let x = workspace.x[l].rows(rows)
                if !shape.isRecurrent {  // 3
                    keep(x, cache: l, block, tile)
                    appendKeysValues(l, slots: slots, tile)
                }
                layer(l, block, tile, dropout)  // 2
            }
            if shape.isRecurrent {  // 3
                let m = workspace.memory.rows(0..<rows.count)
                executor.timed(.memory) {
                    executor.weightedSum(workspace.x.map { $0.rows(rows) }, weights: weights, into: m)  // E9
                }
                keep(m, cache: 0, block, tile)
                for cache in 0..<shape.caches { appendKeysValues(cache, slots: slots, tile) }
            }
        }

        // 4, for all steps at once.
        let normalized = workspace.normalized.rows(all)
        let logits = workspace.logits.rows(all)
        executor.normalize(  // E2
            workspace.x[model.layers].rows(all), into: normalized,
            inverseDeviation: workspace.inverseDeviation.rows(all))
        executor.linear(normalized, packed.generator.packed, into: logits)  // E3
        return logits
    }

    /// Step 2 for one layer: x_{l+1} = layer l of x_l.
    private func layer(_ l: Int, _ block: Range<Int>, _ tile: Tile, _ dropout: Dropout?) {
        let rows = rows(block, of: tile)
        let layer = packed.layers[l]
        let x = workspace.x[l + 1].rows(rows)
        executor.copy(workspace.x[l].rows(rows), into: x)
        let attending = attending(block, tile)
        if !attending.isEmpty {
            let seeing = self.rows(attending, of: tile)
            let stash = workspace.attention[l].rows(seeing)
            let x = workspace.x[l + 1].rows(seeing)
            if l > 0 { executor.query(x, layer, keeping: stash) }  // E8
            executor.attention(  // E8
                x, layer, cache(layer: l), visibility(attending, tile), keeping: stash,
                dropout: self.dropout(dropout, layer: l, attending, tile))
        }
        executor.feedForward(  // E4
            x, inner: layer.inner.packed, outer: layer.outer.packed, keeping: workspace.feedForward[l].rows(rows),
            dropout: self.dropout(dropout, layer: l, block, tile))
    }

    /// Keeps a block's memory vectors, normalised where the model says so.
    private func keep(_ m: Matrix<State>, cache: Int, _ block: Range<Int>, _ tile: Tile) {
        let vectors = vectors(cache: cache, slots: slots(block, tile), tile)
        switch model.memoryNorm {
        case .none: executor.convert(m, into: vectors)
        case .layer:
            executor.normalize(  // E2
                m, into: vectors,
                inverseDeviation: workspace.memoryInverseDeviation[cache].rows(rows(block, of: tile)))
        }
    }

    /// Computes the keys and values of some slots from their vectors and appends them to a cache.
    private func appendKeysValues(_ cache: Int, slots: Range<Int>, _ tile: Tile) {
        if slots.isEmpty { return }
        let keysValues = workspace.keysValues.rows(0..<slots.count * tile.rows.count)
        executor.linear(  // E3
            vectors(cache: cache, slots: slots, tile), keyValue(cache: cache), into: keysValues)
        executor.timed(.memory) {
            executor.append(keysValues, to: workspace.caches[cache], slot: slots.lowerBound)
        }
    }

    /// Keeps the last memories of this segment as those that are carried over to the next.
    func carry(_ tile: Tile) {
        let filled = tile.carried + shape.steps
        let kept = min(shape.carry, filled)
        for vectors in tile.vectors { vectors.moveRows(rows(filled - kept..<filled, of: tile), to: 0) }
        tile.carried = kept
    }
}
