import FeedbackTransformer

extension DevicePass {
    func forget() { carried = 0 }

    /// Keeps the last memories of this segment as those that are carried over to the next.
    func carry() {
        let filled = carried + sizes.steps
        let kept = min(sizes.carry, filled)
        for vectors in layout.vectors where kept > 0 && kept < filled {
            weights.run(
                "carry",
                [
                    .array(operands), .long(vectors), .int(filled), .int(kept), .long(sizes.batch * model.dModel),
                ])
        }
        carried = kept
    }

    var carriedMemory: CarriedMemory {
        get {
            let count = carried * sizes.batch * model.dModel
            return CarriedMemory(
                slots: carried, vectors: layout.vectors.map { weights.readOperands(at: $0, count: count) })
        }
        set {
            precondition(newValue.slots <= sizes.carry && newValue.vectors.count == layout.vectors.count)
            for (place, values) in zip(layout.vectors, newValue.vectors) { weights.writeOperands(values, at: place) }
            carried = newValue.slots
        }
    }

    func attentionWeights(_ inputs: [Int32]) -> [[[[Float]]]] {
        precondition(shape.batchSize == 1 && carried == 0)
        _ = logits(inputs)
        return layout.layers.map { layer in
            let kept = weights.readOperands(at: layer.probabilities, count: sizes.rows * model.heads * sizes.reach)
            return (0..<model.heads).map { head in
                (0..<sizes.steps).map { step in
                    (0..<step).map { memory in
                        let offset = step - memory
                        return offset > sizes.reach ? 0 : kept[(step * model.heads + head) * sizes.reach + offset - 1]
                    }
                }
            }
        }
    }
}
