import FeedbackTransformer

/// Sums what all workers have computed of a batch's loss and gradient, on however many machines, always in the same order.
///
/// It comes between the workers' sums and `PackedModel.unfold`, where gradients are still linear.
package protocol GradientReduction: Sendable {
    /// The machines that share a batch.
    var ranks: Int { get }
    /// The targets of all machines together: what the mean loss is the mean over.
    func sum(targets: Int) -> Int
    func sum(_ loss: CrossEntropySum) -> CrossEntropySum
    /// One worker's part of the sum of all partial gradients, in the order of the workers, into this machine's first.
    func sum(_ partials: [Matrix<State>], _ ranges: [Range<Int>], on executor: some Executor)
}

/// All workers are in this process.
package struct OneMachine: GradientReduction {
    package init() {}
    package var ranks: Int { 1 }
    package func sum(targets: Int) -> Int { targets }
    package func sum(_ loss: CrossEntropySum) -> CrossEntropySum { loss }
    package func sum(_ partials: [Matrix<State>], _ ranges: [Range<Int>], on executor: some Executor) {
        for range in ranges {
            for other in partials.dropFirst() {
                executor.add(other.elements(range), accumulatingInto: partials[0].elements(range))
            }
        }
    }
}
