import FeedbackEngine

extension FeedbackModel {
    /// What the model looks at: how much of each memory every head of every layer takes at every step of a text.
    ///
    /// - Parameters:
    ///   - tokens: the text, all in the vocabulary.
    ///   - memoryWindow: the memories a step sees at most; the model's own window where nil.
    /// - Returns: [layer][head][step][memory]. The row of step t has t numbers, one for each step before it; they add up to 1,
    ///   and those of memories outside the window are 0. The first step has no memory, and its row is empty.
    public func attentionWeights(_ tokens: [Int32], memoryWindow: Int? = nil) -> [[[[Float]]]] {
        if tokens.isEmpty {
            return Array(
                repeating: Array(repeating: [], count: configuration.heads), count: configuration.layers)
        }
        let pass = TrainingPass(
            self, steps: tokens.count, batchSize: 1, memoryWindow: memoryWindow, threads: 1, forwardOnly: true)
        pass.parametersChanged()
        _ = pass.logits(inputs: tokens)
        return pass.attentionWeights
    }
}

extension TrainingPass {
    /// The probabilities that the last forward pass has kept for the backward pass, of a single row without carried memories.
    var attentionWeights: [[[[Float]]]] {
        precondition(batchSize == 1 && shape.carry == 0)
        let (workspace, heads) = (segments[0].workspace, shape.model.heads)
        let margin = executors[0].scoreMargin
        return workspace.attention.map { stash in
            (0..<heads).map { head in
                (0..<shape.steps).map { step in
                    let row = stash.probabilities.rows(step * heads + head..<step * heads + head + 1)
                    let first = max(0, step - shape.window)
                    return (0..<step).map { $0 < first ? 0 : Float(row[margin + $0]) }
                }
            }
        }
    }
}
