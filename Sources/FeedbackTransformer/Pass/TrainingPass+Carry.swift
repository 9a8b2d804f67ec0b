import FeedbackEngine

/// The memories that one batch leaves to the next: [slots, B, D], once for all layers or once a layer.
public struct CarriedMemory: Equatable, Sendable {
    public let slots: Int
    public let vectors: [[Float]]

    public init(slots: Int, vectors: [[Float]]) {
        self.slots = slots
        self.vectors = vectors
    }
}

extension TrainingPass {
    /// What is carried from the last batch to the next; set, the next batch continues from there.
    ///
    /// - Precondition: what is set is of a pass of this shape and batch size.
    public var carriedMemory: CarriedMemory {
        get {
            let (slots, width) = (tiles.joined().first!.carried, shape.model.dModel)
            let vectors = (0..<shape.vectors).map { vector in
                var all = Array(repeating: Float(0), count: slots * batchSize * width)
                eachSlot(slots) { tile, slot, place in
                    let own = tile.vectors[vector].rows(slot * tile.rows.count..<(slot + 1) * tile.rows.count)
                    all.replaceSubrange(place, with: own.values.map(Float.init))
                }
                return all
            }
            return CarriedMemory(slots: slots, vectors: vectors)
        }
        set {
            precondition(newValue.slots <= shape.carry && newValue.vectors.count == shape.vectors)
            eachSlot(newValue.slots) { tile, slot, place in
                for (vector, values) in zip(tile.vectors, newValue.vectors) {
                    vector.rows(slot * tile.rows.count..<(slot + 1) * tile.rows.count).values =
                        values[place].map(Double.init)
                }
            }
            for tile in tiles.joined() { tile.carried = newValue.slots }
        }
    }

    /// Every tile's rows of every slot, and their place in [slots, B, D].
    private func eachSlot(_ slots: Int, _ body: (Tile, _ slot: Int, _ place: Range<Int>) -> Void) {
        let width = shape.model.dModel
        for tile in tiles.joined() {
            for slot in 0..<slots {
                let start = slot * batchSize + tile.rows.lowerBound
                body(tile, slot, start * width..<(start + tile.rows.count) * width)
            }
        }
    }
}
