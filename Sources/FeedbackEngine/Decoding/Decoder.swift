import FeedbackTransformer

/// The CPU's decoding session. The keys and values of a memory are computed once, when its step is taken, and kept; a step
/// costs one pass over the weights and over the memories that it sees.
///
/// The logits of a sequence have the same bits on any number of threads too.
package final class Decoder: DecodingSession {
    let configuration: ModelConfiguration
    /// M: the memories a step sees at most.
    package let memoryWindow: Int
    let precision: DecodingPrecision
    let team: WorkerPool
    private let shares: DecodingShares
    private var weights: DecodingWeights
    private let memoryWeights: [Float]
    private var workspace: DecodingWorkspace?

    /// - Parameters:
    ///   - model: the parameters to decode with, as they are now.
    ///   - memoryWindow: how many memories a step sees at most.
    ///   - precision: of the weights, which a step of few sequences spends its time reading, and of the memories.
    ///   - threads: how many share a step's work, this one included. Useful up to the number of free cores.
    ///   - portable: whether to do without the CPU's instructions for dot products, as on a CPU that lacks them.
    package init(
        _ model: FeedbackModel, memoryWindow: Int? = nil, precision: DecodingPrecision = .float32, threads: Int = 1,
        portable: Bool = false
    ) {
        configuration = model.configuration
        self.memoryWindow = min(memoryWindow ?? configuration.window, configuration.window)
        self.precision = precision
        precondition(self.memoryWindow > 0, "a memory window of \(self.memoryWindow)")
        team = WorkerPool(count: threads)
        shares = DecodingShares(configuration, parts: threads)
        weights = DecodingWeights(
            model.parameters, reach: min(self.memoryWindow, 64), precision: precision, portable: portable)
        memoryWeights = configuration.memoryWeights(model.parameters["transformer.weights"].map(Double.init))
            .map(Float.init)
    }

    /// What one sequence remembers.
    private final class Sequence: DecodingSequence {
        /// Steps taken.
        var length = 0
        /// One cache that all layers read, or one a layer.
        var caches: [DecodingCache] = []
        /// Owns what the memories point into.
        var arena = DecodingArena()
        /// Slots in use.
        var filled = 0
    }

    package func makeSequence() -> any DecodingSequence {
        let sequence = Sequence()
        sequence.caches = makeCaches(slots: min(64, slotLimit), in: sequence.arena)
        return sequence
    }

    package func step(_ sequences: [any DecodingSequence], tokens: [Int32]) -> [[Float]] {
        let sequences = sequences.map { sequence -> Sequence in
            guard let own = sequence as? Sequence else { preconditionFailure("a sequence of another backend") }
            return own
        }
        precondition(sequences.count == tokens.count)
        if sequences.isEmpty { return [] }
        let seen = sequences.reduce(1) { max($0, min($1.filled, memoryWindow)) }
        if seen > weights.reach { weights.extend(reach: min(2 * seen, memoryWindow)) }
        for sequence in sequences { makeRoom(sequence) }
        // A sequence at its very first step has no memory, and its layers no attention: those come last.
        let order = sequences.indices.sorted { sequences[$0].filled > 0 && sequences[$1].filled == 0 }
        let workspace = workspace(rows: sequences.count)
        let step = DecodingStep(
            configuration: configuration, weights: weights, memoryWeights: memoryWeights,
            memoryWindow: memoryWindow, team: team, shares: shares, workspace: workspace, rows: sequences.count,
            attending: sequences.count { $0.filled > 0 }, caches: order.flatMap { sequences[$0].caches },
            filled: order.map { sequences[$0].filled })
        workspace.embed(
            order.map { tokens[$0] }, table: weights.embedding, memoryWeights.first)
        team.run { step.run(part: $0) }
        var logits = Array(repeating: [Float](), count: sequences.count)
        for (row, index) in order.enumerated() {
            sequences[index].filled += 1
            sequences[index].length += 1
            logits[index] = workspace.logits(row: row)
        }
        return logits
    }

    // MARK: Room

    private func makeCaches(slots: Int, in arena: DecodingArena) -> [DecodingCache] {
        (0..<configuration.caches).map { _ in
            DecodingCache(
                slots: slots, heads: configuration.heads, headSize: configuration.headSize,
                precision: precision, in: arena)
        }
    }

    /// The most slots that a memory has: twice the window. So it is full, and forgotten slots are cleared away, only once in a
    /// window's length of steps.
    private var slotLimit: Int { 2 * ((memoryWindow + 15) & ~15) }

    /// Makes sure that there is a slot for the next step: clears away forgotten slots, or lets the memory grow.
    private func makeRoom(_ sequence: Sequence) {
        let slots = sequence.caches[0].slots
        if sequence.filled < slots { return }
        let forgotten = max(0, sequence.filled - memoryWindow) & ~15
        let arena = slots >= slotLimit ? sequence.arena : DecodingArena()
        let targets = slots >= slotLimit ? sequence.caches : makeCaches(slots: min(2 * slots, slotLimit), in: arena)
        for (cache, target) in zip(sequence.caches, targets) {
            cache.copy(slots: forgotten..<sequence.filled, into: target)
        }
        (sequence.caches, sequence.arena) = (targets, arena)
        sequence.filled -= forgotten
    }

    private func workspace(rows: Int) -> DecodingWorkspace {
        if let workspace, workspace.rows >= rows { return workspace }
        let made = DecodingWorkspace(
            configuration, rows: rows, slots: slotLimit, parts: team.count, precision: precision,
            portable: weights.portable)
        workspace = made
        return made
    }
}
