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
/// A decoder and its sequences belong to one thread at a time. It takes the parameters as they are when it is made.
public final class Decoder {
    public let model: FeedbackModel
    /// M: the memories a step sees at most.
    public let memoryWindow: Int
    private let executor: any Executor
    private let packed: PackedModel
    private let memoryWeights: [Double]
    private let shape: SegmentShape
    private var room: Room?

    /// - Parameter memoryWindow: how many memories a step sees at most; the model's own window where nil.
    public convenience init(_ model: FeedbackModel, memoryWindow: Int? = nil) {
        self.init(model, memoryWindow: memoryWindow, executor: CPUExecutor())
    }

    private init(_ model: FeedbackModel, memoryWindow: Int?, executor: any Executor) {
        self.model = model
        self.memoryWindow = min(memoryWindow ?? model.configuration.window, model.configuration.window)
        precondition(self.memoryWindow > 0, "a memory window of \(self.memoryWindow)")
        self.executor = executor
        packed = PackedModel(model.parameters.table, reach: min(self.memoryWindow, 64), executor: executor)
        packed.pack(model.parameters, executors: [executor], pool: WorkerPool(count: 1))
        memoryWeights = packed.memoryWeights(model.parameters)
        shape = SegmentShape(model: model.configuration, steps: 1, carry: 0, window: self.memoryWindow)
    }

    /// What one sequence remembers.
    public final class Sequence {
        /// Steps taken.
        public fileprivate(set) var length = 0
        /// One memory that all layers read, or one a layer; each for this sequence alone.
        fileprivate var memories: [AttentionMemory]
        /// Slots in use.
        fileprivate var filled = 0

        fileprivate init(memories: [AttentionMemory]) { self.memories = memories }
    }

    /// A sequence at its start, with no memory.
    public func makeSequence() -> Sequence {
        Sequence(memories: (0..<shape.memories).map { _ in makeMemory(slots: min(64, slotLimit)) })
    }

    /// Takes one step of every sequence: from its next token to the logits of the token after, [V] each.
    ///
    /// - Precondition: no sequence is listed twice, and every token is in the vocabulary.
    public func step(_ sequences: [Sequence], tokens: [Int32]) -> [[Float]] {
        precondition(sequences.count == tokens.count)
        WorkerPool.bindToThisThread()
        // A sequence at its very first step has no memory, and its layers no attention: those go apart.
        var logits = Array(repeating: [Float](), count: sequences.count)
        let fresh = sequences.indices.filter { sequences[$0].filled == 0 }
        let others = sequences.indices.filter { sequences[$0].filled > 0 }
        for (chosen, attending) in [(fresh, false), (others, true)] where !chosen.isEmpty {
            let rows = step(chosen.map { sequences[$0] }, tokens: chosen.map { tokens[$0] }, attending: attending)
            for (row, index) in chosen.enumerated() { logits[index] = rows.rows(row..<row + 1).values.map(Float.init) }
        }
        return logits
    }

    private func step(_ sequences: [Sequence], tokens: [Int32], attending: Bool) -> Matrix<State> {
        let configuration = model.configuration
        let seen = sequences.reduce(1) { max($0, min($1.filled, memoryWindow)) }
        if seen > packed.reach {
            packed.extend(reach: min(2 * seen, memoryWindow), model.parameters, executor: executor)
        }
        for sequence in sequences { makeRoom(sequence) }
        let room = room(for: sequences.count)
        executor.embed(tokens, table: model.parameters.matrix("src_embed.weight"), into: room.x[0])
        for l in 0..<configuration.layers {
            let layer = packed.layers[l]
            let x = room.x[l + 1]
            if !shape.routesFeedback {
                executor.convert(room.x[l], into: room.vector)
                remember(room, memory: l, of: sequences)
            }
            executor.copy(room.x[l], into: x)
            if attending {
                executor.query(x, layer, keeping: room.attention)
                for (row, sequence) in sequences.enumerated() {
                    let own = room.attention.rows(row..<row + 1)
                    executor.attend(
                        own.query, sequence.memories[sequence.memories.count == 1 ? 0 : l], layer.positions,
                        Visibility(before: sequence.filled, window: min(memoryWindow, packed.reach)),
                        probabilities: own.probabilities, into: own.context)
                }
                executor.linear(room.attention.context, layer.output.packed, accumulatingInto: x)
            }
            executor.feedForward(x, layer.feedForward, keeping: room.feedForward)
        }
        if shape.routesFeedback {
            executor.weightedSum(room.x, weights: memoryWeights, into: room.memory)
            executor.convert(room.memory, into: room.vector)
            for memory in 0..<shape.memories { remember(room, memory: memory, of: sequences) }
        }
        for sequence in sequences {
            sequence.filled += 1
            sequence.length += 1
        }
        executor.normalize(
            room.x[configuration.layers], into: room.attention.normalized,
            inverseDeviation: room.attention.inverseDeviation)
        executor.linear(room.attention.normalized, packed.generator.packed, into: room.logits)
        return room.logits
    }

    /// Appends the step's keys and values, made from `room.vector`, to one memory of every sequence.
    private func remember(_ room: Room, memory: Int, of sequences: [Sequence]) {
        let map = packed.keyValue[packed.keyValue.count == 1 ? 0 : memory].packed
        executor.linear(room.vector, map, into: room.keysValues)
        for (row, sequence) in sequences.enumerated() {
            executor.append(
                room.keysValues.rows(row..<row + 1), to: sequence.memories[memory], slot: sequence.filled)
        }
    }

    // MARK: Room

    private func makeMemory(slots: Int) -> AttentionMemory {
        executor.makeMemory(
            rows: 1, slots: slots, heads: model.configuration.heads, headSize: model.configuration.headSize,
            training: false)
    }

    /// With twice the window, forgotten memories are cleared away once a window's length, so a step's share is small.
    private var slotLimit: Int { 2 * ((memoryWindow + 15) & ~15) }

    /// Makes sure that the next memory has a slot: by clearing away forgotten ones, or by growing.
    private func makeRoom(_ sequence: Sequence) {
        let slots = sequence.memories[0].slots
        if sequence.filled < slots { return }
        let forgotten = max(0, sequence.filled - memoryWindow) & ~15
        let clears = slots >= slotLimit
        for (index, memory) in sequence.memories.enumerated() {
            let target = clears ? memory : makeMemory(slots: min(2 * slots, slotLimit))
            executor.copy(memory, slots: forgotten..<sequence.filled, into: target)
            sequence.memories[index] = target
        }
        sequence.filled -= forgotten
    }

    /// Everything a step of some number of sequences computes in.
    private struct Room {
        let x: [Matrix<State>]
        let attention: AttentionStash
        let feedForward: FeedForwardStash
        let memory, keysValues, logits: Matrix<State>
        let vector: Matrix<Operand>
        let buffers: [AnyObject]
    }

    private func room(for rows: Int) -> Room {
        let scores = executor.scoreColumns(slots: slotLimit)
        if let room, room.memory.rows == rows { return room }
        let configuration = model.configuration
        let (D, F, H) = (configuration.dModel, configuration.dFF, configuration.heads)
        var buffers: [AnyObject] = []
        func state(_ columns: Int) -> Matrix<State> {
            let buffer = executor.state(rows, columns)
            buffers.append(buffer)
            return buffer.all
        }
        func operand(_ columns: Int) -> Matrix<Operand> {
            let buffer = executor.operand(rows, columns)
            buffers.append(buffer)
            return buffer.all
        }
        let deviation = state(1)
        let normalized = operand(D)
        let made = Room(
            x: (0...configuration.layers).map { _ in state(D) },
            attention: AttentionStash(
                normalized: normalized, inverseDeviation: deviation, query: operand(D),
                probabilities: operand(H * scores).shaped(rows * H, scores), context: operand(D)),
            feedForward: FeedForwardStash(normalized: normalized, inverseDeviation: deviation, hidden: operand(F)),
            memory: state(D), keysValues: state(2 * D), logits: state(configuration.vocabulary), vector: operand(D),
            buffers: buffers)
        room = made
        return made
    }
}
