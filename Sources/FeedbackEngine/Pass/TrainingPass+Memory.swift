import FeedbackTransformer

extension TrainingPass {
    package var carriedMemory: CarriedMemory {
        get {
            let (slots, width) = (workers[0].tiles[0].carried, segmentShape.model.dModel)
            let vectors = (0..<segmentShape.vectors).map { vector in
                var all = Array(repeating: Float(0), count: slots * shape.batchSize * width)
                eachSlot(slots) { tile, slot, place in
                    let own = tile.vectors[vector].rows(slot * tile.rows.count..<(slot + 1) * tile.rows.count)
                    all.replaceSubrange(place, with: own.floatValues)
                }
                reduction.gather(&all, rows: shape.batchSize, width: width)
                return all
            }
            return CarriedMemory(slots: slots, vectors: vectors)
        }
        set {
            precondition(newValue.slots <= segmentShape.carry && newValue.vectors.count == segmentShape.vectors)
            eachSlot(newValue.slots) { tile, slot, place in
                for (vector, values) in zip(tile.vectors, newValue.vectors) {
                    vector.rows(slot * tile.rows.count..<(slot + 1) * tile.rows.count).values =
                        values[place].map(Double.init)
                }
            }
            for tile in workers.flatMap(\.tiles) { tile.carried = newValue.slots }
        }
    }

    package func forget() {
        for tile in workers.flatMap(\.tiles) { tile.carried = 0 }
    }

    /// Every tile's rows of every slot, and their place in [slots, B, D].
    private func eachSlot(_ slots: Int, _ body: (Tile, _ slot: Int, _ place: Range<Int>) -> Void) {
        let width = segmentShape.model.dModel
        for tile in workers.flatMap(\.tiles) {
            for slot in 0..<slots {
                let start = slot * shape.batchSize + tile.rows.lowerBound
                body(tile, slot, start * width..<(start + tile.rows.count) * width)
            }
        }
    }

    /// From the probabilities that a forward pass keeps for the backward pass.
    package func attentionWeights(_ inputs: [Int32]) -> [[[[Float]]]] {
        precondition(shape.batchSize == 1 && workers[0].tiles[0].carried == 0)
        _ = logits(inputs)
        let (worker, heads) = (workers[0], segmentShape.model.heads)
        let margin = worker.executor.scoreMargin
        return worker.segment.workspace.attention.map { stash in
            (0..<heads).map { head in
                (0..<shape.steps).map { step in
                    let row = stash.probabilities.rows(step * heads + head..<step * heads + head + 1)
                    let first = max(0, step - segmentShape.window)
                    return (0..<step).map { $0 < first ? 0 : Float(row[margin + $0]) }
                }
            }
        }
    }
}
