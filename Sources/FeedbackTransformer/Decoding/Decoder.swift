import FeedbackEngine

/// Steps any number of sequences at once, each with its own memory, a token at a time.
///
/// The keys and values of a memory are computed once, when its step is taken, and kept; a step costs one pass over the
/// weights and over the memories that it sees. Sequences may be of different lengths and may come and go between steps.
///
/// ```swift
/// let decoder = Decoder(model)
/// let sequence = decoder.makeSequence()
/// var token: Int32 = 0
/// for _ in 0..<100 {
///     let logits = decoder.step([sequence], tokens: [token])[0]
///     token = Int32(logits.indices.max { logits[$0] < logits[$1] }!)
/// }
/// ```
///
/// The logits of a sequence have the same bits whichever sequences it is stepped with, and on any number of threads.
///
/// A decoder and its sequences belong to one thread at a time. It takes the parameters as they are when it is made.
public final class Decoder {
    public let model: FeedbackModel
    /// M: the memories a step sees at most.
    public let memoryWindow: Int
    public let precision: DecodingPrecision
    private let team: WorkerPool
    private let shares: DecodingShares
    private var weights: DecodingWeights
    private let memoryWeights: [Float]
    private let memoryCount: Int
    private var workspace: DecodingWorkspace?

    /// - Parameters:
    ///   - model: the parameters to decode with, as they are now.
    ///   - memoryWindow: how many memories a step sees at most; the model's own window where nil.
    ///   - precision: of the weights, which a step of few sequences spends its time reading, and of the memories.
    ///   - threads: how many share a step's work, this one included. Useful up to the number of free cores.
    public convenience init(
        _ model: FeedbackModel, memoryWindow: Int? = nil, precision: DecodingPrecision = .float32, threads: Int = 1
    ) {
        self.init(model, memoryWindow: memoryWindow, precision: precision, threads: threads, portable: false)
    }

    /// - Parameter portable: whether to do without the CPU's instructions for dot products, as on a CPU that lacks them.
    package init(
        _ model: FeedbackModel, memoryWindow: Int?, precision: DecodingPrecision, threads: Int, portable: Bool
    ) {
        let configuration = model.configuration
        self.model = model
        self.memoryWindow = min(memoryWindow ?? configuration.window, configuration.window)
        self.precision = precision
        precondition(self.memoryWindow > 0, "a memory window of \(self.memoryWindow)")
        team = WorkerPool(count: threads)
        shares = DecodingShares(configuration, parts: threads)
        weights = DecodingWeights(
            model, reach: min(self.memoryWindow, 64), precision: precision, portable: portable)
        switch configuration.memory {
        case .feedback:
            memoryWeights = layerWeights(model.parameters.matrix("transformer.weights")).map(Float.init)
        case .feedbackLast: memoryWeights = Array(repeating: 0, count: configuration.layers) + [1]
        case .perLayer: memoryWeights = []
        }
        memoryCount = configuration.memory != .perLayer && configuration.keyValue == .shared ? 1 : configuration.layers
    }

    /// What one sequence remembers.
    public final class Sequence {
        /// Steps taken.
        public fileprivate(set) var length = 0
        /// One memory that all layers read, or one a layer.
        fileprivate var memories: [DecodingMemory] = []
        /// Owns what the memories point into.
        fileprivate var arena = DecodingArena()
        /// Slots in use.
        fileprivate var filled = 0
    }

    /// A sequence at its start, with no memory.
    public func makeSequence() -> Sequence {
        let sequence = Sequence()
        sequence.memories = makeMemories(slots: min(64, slotLimit), in: sequence.arena)
        return sequence
    }

    /// Takes one step of every sequence: from its next token to the logits of the token after, [V] each.
    ///
    /// - Precondition: no sequence is listed twice, and every token is in the vocabulary.
    public func step(_ sequences: [Sequence], tokens: [Int32]) -> [[Float]] {
        precondition(sequences.count == tokens.count)
        if sequences.isEmpty { return [] }
        let seen = sequences.reduce(1) { max($0, min($1.filled, memoryWindow)) }
        if seen > weights.reach { weights.extend(reach: min(2 * seen, memoryWindow)) }
        for sequence in sequences { makeRoom(sequence) }
        // A sequence at its very first step has no memory, and its layers no attention: those come last.
        let order = sequences.indices.sorted { sequences[$0].filled > 0 && sequences[$1].filled == 0 }
        let workspace = workspace(rows: sequences.count)
        let step = DecodingStep(
            configuration: model.configuration, weights: weights, memoryWeights: memoryWeights,
            memoryWindow: memoryWindow, team: team, shares: shares, workspace: workspace, rows: sequences.count,
            attending: sequences.count { $0.filled > 0 }, memories: order.flatMap { sequences[$0].memories },
            filled: order.map { sequences[$0].filled })
        workspace.embed(
            order.map { tokens[$0] }, table: model.parameters.matrix("src_embed.weight"), memoryWeights.first)
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

    private func makeMemories(slots: Int, in arena: DecodingArena) -> [DecodingMemory] {
        (0..<memoryCount).map { _ in
            DecodingMemory(
                slots: slots, heads: model.configuration.heads, headSize: model.configuration.headSize,
                precision: precision, in: arena)
        }
    }

    /// The most slots that a memory has: twice the window. So it is full, and forgotten slots are cleared away, only once in a
    /// window's length of steps.
    private var slotLimit: Int { 2 * ((memoryWindow + 15) & ~15) }

    /// Makes sure that there is a slot for the next step: clears away forgotten slots, or lets the memory grow.
    private func makeRoom(_ sequence: Sequence) {
        let slots = sequence.memories[0].slots
        if sequence.filled < slots { return }
        let forgotten = max(0, sequence.filled - memoryWindow) & ~15
        let arena = slots >= slotLimit ? sequence.arena : DecodingArena()
        let targets = slots >= slotLimit ? sequence.memories : makeMemories(slots: min(2 * slots, slotLimit), in: arena)
        for (memory, target) in zip(sequence.memories, targets) {
            memory.copy(slots: forgotten..<sequence.filled, into: target)
        }
        (sequence.memories, sequence.arena) = (targets, arena)
        sequence.filled -= forgotten
    }

    private func workspace(rows: Int) -> DecodingWorkspace {
        if let workspace, workspace.rows >= rows { return workspace }
        let made = DecodingWorkspace(
            model.configuration, rows: rows, slots: slotLimit, parts: team.count, precision: precision,
            portable: weights.portable)
        workspace = made
        return made
    }
}
