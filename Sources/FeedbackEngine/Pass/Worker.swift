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
    /// What of all parameters is its part where they are shared out: ranges of the flat array.
    let share: [(range: Range<Int>, decays: Bool)]
    /// Of the last job.
    var sum = CrossEntropySum(), squares = 0.0

    init(
        _ shape: SegmentShape, rows: Range<Int>, packed: PackedModel<E>, parameters: ParameterStore, executor: E,
        training: Bool, share: [(range: Range<Int>, decays: Bool)]
    ) {
        // Tiles of nearly equal size.
        let count = (rows.count + shape.tileRows - 1) / shape.tileRows
        tiles = (0..<count).map { tile in
            let own = rows.count * tile / count..<rows.count * (tile + 1) / count
            return Tile(
                shape, rows: rows.lowerBound + own.lowerBound..<rows.lowerBound + own.upperBound, executor: executor)
        }
        segment = Segment(
            shape, rows: tiles.map(\.rows.count).max()!, packed: packed, parameters: parameters, training: training,
            executor: executor)
        gradient = training ? ParameterStore(parameters.table, executor: executor) : nil
        self.executor = executor
        self.share = share
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

extension Batch {
    /// The columns of [T, B] that belong to some rows of the batch, still time-major.
    func select(_ tokens: [Int32], _ rows: Range<Int>) -> [Int32] {
        (0..<steps).flatMap { t in tokens[t * self.rows + rows.lowerBound..<t * self.rows + rows.upperBound] }
    }
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
