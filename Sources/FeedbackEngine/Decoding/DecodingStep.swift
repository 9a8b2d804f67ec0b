import FeedbackTransformer

// One step of several sequences, shared out over the team's threads; the equations are those of Documentation/Equations.md
//
//   for every layer   1   own columns of q̃                     from LN(x)                              E2, E3
//                     2   own heads of c                                             then a barrier    E5–E7
//                     3   own columns of x += c Woᵀ + bo                             then a barrier    E3
//                     4   own columns of h = max(0, LN(x) W1ᵀ + b1)                  then a barrier    E2, E3
//                     5   own columns of x += h W2ᵀ + b2, and of m += a_l x          then a barrier    E3, E9
//   at the end        6   own heads of the memory's keys and values, from m or LN(m)                   E2, E3
//                     7   own columns of the logits             from LN(x)                             E2, E3
//
// A thread has the same columns of all maps from D to D. So it computes itself what its own heads need of q̃, k and v, and
// there is no barrier between 1 and 2; only where a head's columns are in two threads' parts there must be one. Every thread
// normalises and encodes all of a product's input for itself: that is cheaper than one more barrier.

/// Each thread's share: which of D columns, and which heads.
struct DecodingShares: Sendable {
    let columns: [Range<Int>]
    let heads: [Range<Int>]
    /// Whether the columns of every thread are those of its heads.
    let headsAreWhole: Bool

    init(_ configuration: ModelConfiguration, parts: Int) {
        let (D, H, K) = (configuration.dModel, configuration.heads, configuration.headSize)
        columns = (0..<parts).map { part in PanelLinear.columns(of: D, part: part, of: parts) }
        headsAreWhole = columns.allSatisfy { $0.lowerBound % K == 0 }
        heads =
            headsAreWhole
            ? columns.map { $0.lowerBound / K..<$0.upperBound / K }
            : (0..<parts).map { split(0..<H, $0, of: parts) }
    }
}

/// Everything that a step of up to `rows` sequences computes in.
final class DecodingWorkspace: @unchecked Sendable {
    let rows: Int
    let x, memory, query, context, keys, values, hidden, logits: Matrix<State>
    /// One of each for every thread.
    let encoded: [EncodedRows]
    let scratch: [Matrix<State>]
    private let arena = DecodingArena()

    init(
        _ configuration: ModelConfiguration, rows: Int, slots: Int, parts: Int, precision: DecodingPrecision,
        portable: Bool
    ) {
        let (D, F) = (configuration.dModel, configuration.dFF)
        self.rows = rows
        let vectors = (0..<6).map { [arena] _ in arena.state(rows, D) }
        (x, memory, query, context, keys, values) = (
            vectors[0], vectors[1], vectors[2], vectors[3], vectors[4], vectors[5]
        )
        (hidden, logits) = (arena.state(rows, F), arena.state(rows, configuration.vocabulary))
        encoded = (0..<parts).map { _ in
            EncodedRows(rows: rows, columns: max(D, F), precision: precision, portable: portable)
        }
        scratch = (0..<parts).map { [arena] _ in
            arena.state(1, DecodingCache.scratchColumns(slots: slots, headSize: configuration.headSize))
        }
    }

    /// x = E[token], and m = a_0 x.
    func embed(_ tokens: [Int32], table: Matrix<State>, _ weight: Float?) {
        for (row, token) in tokens.enumerated() {
            precondition(
                token >= 0 && Int(token) < table.rows, "token \(token) is outside the vocabulary of \(table.rows)")
            let own = x.rows(row..<row + 1)
            own.floats.update(from: table.floats + Int(token) * x.columns, count: x.columns)
            if let weight {
                let m = memory.rows(row..<row + 1)
                m.clear()
                m.add(own, times: weight, columns: 0..<x.columns)
            }
        }
    }

    func logits(row: Int) -> [Float] { logits.rows(row..<row + 1).floatValues }
}

struct DecodingStep: @unchecked Sendable {
    let configuration: ModelConfiguration
    let weights: DecodingWeights
    let memoryWeights: [Float]
    let memoryWindow: Int
    let team: WorkerPool
    let shares: DecodingShares
    let workspace: DecodingWorkspace
    let rows: Int
    /// How many rows have a memory: the first ones.
    let attending: Int
    /// Each row's memories, one row's after the other's, and the slots in use.
    let caches: [DecodingCache]
    let filled: [Int]
    private var cacheCount: Int { caches.count / rows }

    /// One thread's part.
    func run(part: Int) {
        let (D, F, room) = (configuration.dModel, configuration.dFF, workspace)
        let (encoded, parts, heads) = (room.encoded[part], team.count, shares.heads[part])
        for l in weights.layers.indices {
            let layer = weights.layers[l]
            if !configuration.isRecurrent { appendKeysValues(room.x, cache: l, part: part) }
            if attending > 0 {
                encoded.encode(room.x, rows: attending, columns: D, normalizing: true)  // 1
                layer.query.multiply(encoded, part: part, of: parts, .store, into: room.query)
                if !shares.headsAreWhole { team.barrier(part) }
                // Rows inside heads: all rows read a head's positions while they are in a near cache.
                for head in heads {  // 2
                    for row in 0..<attending {
                        let cache = row * cacheCount + (cacheCount == 1 ? 0 : l)
                        caches[cache].attend(
                            room.query.rows(row..<row + 1), head: head,
                            slots: max(0, filled[row] - memoryWindow)..<filled[row], layer.positions,
                            scratch: room.scratch[part],
                            next: row + 1 < attending ? caches[cache + cacheCount] : nil,
                            into: room.context.rows(row..<row + 1))
                    }
                }
                team.barrier(part)
                encoded.encode(room.context, rows: attending, columns: D)  // 3
                layer.output.multiply(encoded, part: part, of: parts, .add, into: room.x)
                team.barrier(part)
            }
            encoded.encode(room.x, rows: rows, columns: D, normalizing: true)  // 4
            layer.inner.multiply(encoded, part: part, of: parts, .storeRectified, into: room.hidden)
            team.barrier(part)
            encoded.encode(room.hidden, rows: rows, columns: F)  // 5
            layer.outer.multiply(encoded, part: part, of: parts, .add, into: room.x)
            if configuration.isRecurrent {
                for row in 0..<rows {
                    room.memory.rows(row..<row + 1).add(
                        room.x.rows(row..<row + 1), times: memoryWeights[l + 1], columns: shares.columns[part])
                }
            }
            team.barrier(part)
        }
        if configuration.isRecurrent {  // 6
            for cache in 0..<cacheCount { appendKeysValues(room.memory, cache: cache, part: part) }
        }
        encoded.encode(room.x, rows: rows, columns: D, normalizing: true)  // 7
        weights.generator.multiply(encoded, part: part, of: parts, .store, into: room.logits)
    }

    /// Appends the keys and values made from `vectors` to one memory of every row.
    private func appendKeysValues(_ vectors: Matrix<State>, cache: Int, part: Int) {
        let (room, map) = (workspace, weights.keys.count == 1 ? 0 : cache)
        let encoded = room.encoded[part]
        // No thread may still read the keys and values of the memory before.
        if !shares.headsAreWhole { team.barrier(part) }
        encoded.encode(
            vectors, rows: rows, columns: configuration.dModel, normalizing: configuration.memoryNorm == .layer)
        weights.keys[map].multiply(encoded, part: part, of: team.count, .store, into: room.keys)
        weights.values[map].multiply(encoded, part: part, of: team.count, .store, into: room.values)
        if !shares.headsAreWhole { team.barrier(part) }
        for row in 0..<rows {
            caches[row * cacheCount + cache].append(
                keys: room.keys.rows(row..<row + 1), values: room.values.rows(row..<row + 1), heads: shares.heads[part],
                slot: filled[row])
        }
    }
}
