import CKernels
import Foundation

// Attention while decoding: E5–E7 (Operations/Attention.swift), forward only, for one row at a time, in float32 or bfloat16
//
// Keys lie in lanes over slots and values in lanes over the head, so that both sums run over groups of the summed axis:
// keys [H][slots / 16][groups over K][16], values [H][slots / g][K rounded up to 16] with g slots in a group.

/// The keys and values of one sequence, as a view.
package struct DecodingCache: @unchecked Sendable {
    package let slots: Int
    private let heads: Int
    private let headSize: Int
    private let format: feedback_format
    private let keys, values: Groups
    /// How many groups the keys, and the values, of one head take.
    private let keyGroups, valueGroups: Int

    package init(slots: Int, heads: Int, headSize: Int, precision: DecodingPrecision, in arena: DecodingArena) {
        self.slots = feedback_padded(slots)
        self.heads = heads
        self.headSize = headSize
        format = precision.memory
        keyGroups = self.slots * feedback_groups(format, headSize)
        valueGroups = feedback_groups(format, self.slots) * feedback_padded(headSize)
        keys = arena.groups(heads * keyGroups)
        values = arena.groups(heads * valueGroups)
    }

    /// Writes the keys and values of some heads, from one row each of [D] or more columns, into a slot.
    package func append(keys k: Matrix<State>, values v: Matrix<State>, heads range: Range<Int>, slot: Int) {
        precondition(slot >= 0 && slot < slots && range.upperBound <= heads)
        for h in range {
            feedback_append_keys_values(
                format, k.floats + h * headSize, v.floats + h * headSize, headSize, slot,
                keys + h * keyGroups, values + h * valueGroups)
        }
    }

    /// Copies some slots, from a multiple of 16 on, to the first slots of another memory or of this one.
    package func copy(slots range: Range<Int>, into other: DecodingCache) {
        precondition(range.lowerBound % 16 == 0 && range.count <= other.slots && range.upperBound <= slots)
        let (first, count) = (range.lowerBound, feedback_padded(range.count))
        for h in 0..<heads {
            for (from, to, own, others) in [
                (keys, other.keys, keyGroups, other.keyGroups), (values, other.values, valueGroups, other.valueGroups),
            ] {
                let perSlot = MemoryLayout<Int32>.size * own / slots
                memmove(to + h * others, UnsafeMutableRawPointer(from + h * own) + first * perSlot, count * perSlot)
            }
        }
    }

    /// c = attention of one row's query over the slots, for one head. Meanwhile the same head's keys in `next`, the memory to
    /// be read after this one, are fetched. `scratch` has at least `scratchColumns` numbers.
    package func attend(
        _ q: Matrix<State>, head h: Int, slots visible: Range<Int>, _ positions: DecodingPositions,
        scratch: Matrix<State>, next: DecodingCache?, into context: Matrix<State>
    ) {
        assert(!visible.isEmpty && visible.upperBound <= slots && visible.count <= positions.reach)
        assert(scratch.count >= Self.scratchColumns(slots: slots, headSize: headSize))
        let column = 16 + positions.reach - visible.upperBound
        positions.attend(
            q.floats + h * headSize, keys + h * keyGroups, values + h * valueGroups,
            next.map { $0.keys + h * $0.keyGroups },
            positions.embeddings(head: h) + column, positions.columns,
            positions.bias.floats + h * positions.columns + column, visible.lowerBound, visible.upperBound,
            headSize, scratch.floats, context.floats + h * headSize)
    }

    /// The numbers of scratch memory that `attend` needs.
    package static func scratchColumns(slots: Int, headSize: Int) -> Int {
        feedback_padded(headSize) + 2 * (feedback_padded(slots) + 32)
    }
}

/// U, in groups over the head, and S̃, for offsets up to `reach`, as a view. Offset o is at column 16 + reach − o; the 16
/// columns on either side are zero.
package struct DecodingPositions: @unchecked Sendable {
    package let reach: Int
    let attend: feedback_attend_decoding
    let bias: Matrix<State>
    private let embeddings: Groups
    private let groups: Int
    var columns: Int { reach + 32 }

    /// From U [reach, D] and S [reach, H] as `AttentionOperations.pack`.
    package init(
        embeddings u: Matrix<State>, bias s: Matrix<State>, queryBias: Matrix<State>, scale: Double,
        precision: DecodingPrecision, portable: Bool = false, in arena: DecodingArena
    ) {
        let (heads, size) = (s.columns, u.columns / s.columns)
        let format = precision.memory
        reach = u.rows
        attend = feedback_kernels_of(format, portable).attendDecoding
        groups = feedback_groups(format, size)
        embeddings = arena.groups(heads * groups * (reach + 32))
        bias = arena.state(heads, reach + 32)
        withUnsafeTemporaryAllocation(of: Int32.self, capacity: groups) { row in
            for h in 0..<heads {
                let to = embeddings(head: h) + 16
                for c in 0..<reach {
                    let from = u.floats + c * u.columns + h * size
                    feedback_encode(format, from, size, row.baseAddress!, nil, nil)
                    for g in 0..<groups { to[g * columns + c] = row[g] }
                    let dot = (0..<size).reduce(Float(0)) { $0 + queryBias.floats[h * size + $1] * from[$1] }
                    bias.floats[h * columns + 16 + c] = Float(scale) * (s.floats[c * heads + h] - dot)
                }
            }
        }
    }

    func embeddings(head: Int) -> Groups { embeddings + head * groups * columns }
}
