import CKernels
import Foundation

// The equations of Attention.swift, a row and a head at a time, on the layouts that the kernels want (CKernels.h).
// Both passes read keys and values in two directions, over slots and over the head, so training keeps each in both.

private func roundedUp(_ count: Int) -> Int { (count + 15) & ~15 }

final class CPUMemory: AttentionMemory, @unchecked Sendable {
    let keysOverSlots: Buffer<Operand>
    let valuesOverHead: Buffer<Operand>
    /// Kept for training only.
    let keysOverHead, valuesOverSlots: Buffer<Operand>?
    let dKeys, dValues: Buffer<State>?

    init(rows: Int, slots: Int, heads: Int, headSize: Int, training: Bool, executor: CPUExecutor) {
        let (perRow, padded) = (heads * roundedUp(slots), roundedUp(headSize))
        keysOverSlots = executor.operand(rows, perRow * headSize)
        valuesOverHead = executor.operand(rows, perRow * padded)
        keysOverHead = training ? executor.operand(rows, perRow * padded) : nil
        valuesOverSlots = training ? executor.operand(rows, perRow * headSize) : nil
        dKeys = training ? executor.state(rows, perRow * padded) : nil
        dValues = training ? executor.state(rows, perRow * padded) : nil
        super.init(rows: rows, slots: slots, heads: heads, headSize: headSize)
    }

    /// Where a row's head begins in a layout with lanes over slots.
    func overSlots(_ row: Int, _ head: Int) -> Int { (row * heads + head) * roundedUp(slots) * headSize }
    /// Where it begins in a layout with lanes over the head, and in the gradients.
    func overHead(_ row: Int, _ head: Int) -> Int { (row * heads + head) * roundedUp(slots) * roundedUp(headSize) }
}

final class CPUPositions: PackedPositions, @unchecked Sendable {
    /// Uᵀ [H, K, columns] and S̃ [H, columns]; offset o is at column 16 + reach − o, with 16 more on either side.
    let overSlots: Buffer<Operand>
    let bias: Buffer<State>
    /// U [H, reach, K padded].
    let overHead: Buffer<Operand>
    var columns: Int { reach + 32 }

    init(heads: Int, headSize: Int, reach: Int, executor: CPUExecutor) {
        overSlots = executor.operand(heads * headSize, reach + 32)
        bias = executor.state(heads, reach + 32)
        overHead = executor.operand(heads * reach, roundedUp(headSize))
        super.init(heads: heads, headSize: headSize, reach: reach)
    }
}

extension CPUExecutor {
    public func makeMemory(rows: Int, slots: Int, heads: Int, headSize: Int, training: Bool) -> AttentionMemory {
        CPUMemory(rows: rows, slots: slots, heads: heads, headSize: headSize, training: training, executor: self)
    }
    public func makePositions(heads: Int, headSize: Int, reach: Int) -> PackedPositions {
        CPUPositions(heads: heads, headSize: headSize, reach: reach, executor: self)
    }
    public func makePositionGradients(heads: Int, headSize: Int, reach: Int) -> PositionGradients {
        PositionGradients(embeddings: state(heads * reach, roundedUp(headSize)), bias: state(heads, reach))
    }
    /// The slots, and 16 zeros before and behind that the gathering kernels may read.
    public func scoreColumns(slots: Int) -> Int { roundedUp(slots) + 32 }

    public func pack(
        _ positions: PackedPositions, embeddings: Matrix<State>, bias: Matrix<State>, queryBias: Matrix<State>,
        scale: Double
    ) {
        let packed = unsafeDowncast(positions, to: CPUPositions.self)
        let (reach, size) = (packed.reach, packed.headSize)
        precondition(embeddings.rows == reach && bias.rows == reach && queryBias.count == embeddings.columns)
        for h in 0..<packed.heads {
            let u = queryBias.floats + h * size
            for c in 0..<reach {
                let from = embeddings.floats + c * embeddings.columns + h * size
                (packed.overHead.all.floats + (h * reach + c) * roundedUp(size)).update(from: from, count: size)
                let to = packed.overSlots.all.floats + h * size * packed.columns + 16 + c
                var dot: Float = 0
                for k in 0..<size {
                    to[k * packed.columns] = from[k]
                    dot += u[k] * from[k]
                }
                packed.bias.all.floats[h * packed.columns + 16 + c] =
                    Float(scale) * (bias.floats[c * packed.heads + h] - dot)
            }
        }
    }

    public func append(_ keysValues: Matrix<State>, to memory: AttentionMemory, slot: Int) {
        let memory = unsafeDowncast(memory, to: CPUMemory.self)
        let (size, width) = (memory.headSize, keysValues.columns / 2)
        precondition(slot >= 0 && slot + keysValues.rows / memory.rows <= memory.slots)
        for n in 0..<keysValues.rows {
            let (row, at) = (n % memory.rows, slot + n / memory.rows)
            for h in 0..<memory.heads {
                let key = keysValues.floats + n * 2 * width + h * size
                let (slots, head) = (memory.overSlots(row, h), memory.overHead(row, h))
                feedback_append(
                    key, size, at, memory.keysOverSlots.all.floats + slots,
                    memory.keysOverHead.map { $0.all.floats + head })
                feedback_append(
                    key + width, size, at, memory.valuesOverSlots.map { $0.all.floats + slots },
                    memory.valuesOverHead.all.floats + head)
            }
        }
    }

    public func copy(_ memory: AttentionMemory, slots: Range<Int>, into other: AttentionMemory) {
        let from = unsafeDowncast(memory, to: CPUMemory.self)
        let to = unsafeDowncast(other, to: CPUMemory.self)
        precondition(slots.lowerBound % 16 == 0 && slots.count <= to.slots && slots.upperBound <= from.slots)
        let (size, padded) = (from.headSize, roundedUp(from.headSize))
        let (first, count) = (slots.lowerBound, roundedUp(slots.count))
        for row in 0..<from.rows {
            for h in 0..<from.heads {
                memmove(
                    to.keysOverSlots.all.floats + to.overSlots(row, h),
                    from.keysOverSlots.all.floats + from.overSlots(row, h) + first * size, count * size * 4)
                memmove(
                    to.valuesOverHead.all.floats + to.overHead(row, h),
                    from.valuesOverHead.all.floats + from.overHead(row, h) + first * padded, count * padded * 4)
            }
        }
    }

    /// Calls `body` for every step, row and head of a block of queries, with where the head begins in the rows of
    /// queries, where its row of scores begins, and where its column 0 of the positions is.
    @inline(__always)
    private func forEachQuery(
        _ q: Matrix<Operand>, _ memory: CPUMemory, _ visibility: Visibility, scores: Int,
        _ body: (_ row: Int, _ head: Int, _ visible: Range<Int>, _ at: Int, _ scores: Int) -> Void
    ) {
        let (rows, heads) = (memory.rows, memory.heads)
        for row in 0..<rows {
            for h in 0..<heads {
                for step in 0..<q.rows / rows {
                    let n = step * rows + row
                    body(
                        row, h, visibility.slots(step: step), n * q.columns + h * memory.headSize,
                        (n * heads + h) * scores + 16)
                }
            }
        }
    }

    public func attend(
        _ q: Matrix<Operand>, _ memory: AttentionMemory, _ positions: PackedPositions, _ visibility: Visibility,
        probabilities p: Matrix<Operand>, into context: Matrix<Operand>
    ) {
        let memory = unsafeDowncast(memory, to: CPUMemory.self)
        let packed = unsafeDowncast(positions, to: CPUPositions.self)
        assert(visibility.before > 0 && p.rows == q.rows * memory.heads && visibility.window <= packed.reach)
        forEachQuery(q, memory, visibility, scores: p.columns) { row, h, visible, at, scores in
            let column = 16 + packed.reach - visible.upperBound
            feedback_attend(
                q.floats + at, memory.keysOverSlots.all.floats + memory.overSlots(row, h),
                memory.valuesOverHead.all.floats + memory.overHead(row, h),
                packed.overSlots.all.floats + h * memory.headSize * packed.columns + column, packed.columns,
                packed.bias.all.floats + h * packed.columns + column, visible.lowerBound, visible.upperBound,
                memory.headSize,
                p.floats + scores, context.floats + at)
        }
    }

    public func attendBackward(
        _ dContext: Matrix<Operand>, context: Matrix<Operand>, probabilities p: Matrix<Operand>,
        _ memory: AttentionMemory, _ positions: PackedPositions, _ visibility: Visibility,
        scoreGradients ds: Matrix<Operand>, into dq: Matrix<Operand>
    ) {
        let memory = unsafeDowncast(memory, to: CPUMemory.self)
        let packed = unsafeDowncast(positions, to: CPUPositions.self)
        let keys = memory.keysOverHead!.all.floats
        let values = memory.valuesOverSlots!.all.floats
        forEachQuery(dq, memory, visibility, scores: p.columns) { row, h, visible, at, scores in
            let nearest = h * packed.reach + packed.reach - visible.upperBound
            feedback_attend_backward(
                dContext.floats + at, context.floats + at, p.floats + scores, keys + memory.overHead(row, h),
                values + memory.overSlots(row, h), packed.overHead.all.floats + nearest * roundedUp(memory.headSize),
                visible.lowerBound, visible.upperBound, memory.headSize, ds.floats + scores, dq.floats + at)
        }
    }

    public func gather(
        scoreGradients ds: Matrix<Operand>, probabilities p: Matrix<Operand>, q: Matrix<Operand>,
        dContext: Matrix<Operand>, steps: Range<Int>, slots: Range<Int>, _ visibility: Visibility,
        accumulatingInto memory: AttentionMemory
    ) {
        if steps.isEmpty || slots.isEmpty { return }
        let memory = unsafeDowncast(memory, to: CPUMemory.self)
        let (rows, heads, size) = (memory.rows, memory.heads, memory.headSize)
        func sum(_ a: Matrix<Operand>, _ b: Matrix<Operand>, into sums: Matrix<State>, row: Int, head h: Int) {
            feedback_gather_slots(
                a.floats + (row * heads + h) * a.columns + 16, rows * heads * a.columns,
                b.floats + row * b.columns + h * size, rows * b.columns, steps.lowerBound, steps.upperBound,
                slots.lowerBound, slots.upperBound, visibility.before, visibility.window, size,
                sums.floats + memory.overHead(row, h))
        }
        for row in 0..<rows {
            for h in 0..<heads {
                sum(ds, q, into: memory.dKeys!.all, row: row, head: h)
                sum(p, dContext, into: memory.dValues!.all, row: row, head: h)
            }
        }
    }

    public func gather(
        scoreGradients ds: Matrix<Operand>, q: Matrix<Operand>, rows: Int, _ visibility: Visibility,
        accumulatingInto gradients: PositionGradients
    ) {
        let (heads, reach) = (gradients.bias.all.rows, gradients.bias.all.columns)
        let (size, steps) = (q.columns / heads, q.rows / rows)
        for row in 0..<rows {
            for h in 0..<heads {
                let a = ds.floats + (row * heads + h) * ds.columns + 16
                feedback_gather_offsets(
                    a, rows * heads * ds.columns, q.floats + row * q.columns + h * size, rows * q.columns, 0, steps,
                    visibility.before, reach, size,
                    gradients.embeddings.all.floats + h * reach * roundedUp(size))
                feedback_sum_offsets(
                    a, rows * heads * ds.columns, 0, steps, visibility.before, reach,
                    gradients.bias.all.floats + h * reach)
            }
        }
    }

    public func clearGradients(_ memory: AttentionMemory) {
        let memory = unsafeDowncast(memory, to: CPUMemory.self)
        memory.dKeys!.all.clear()
        memory.dValues!.all.clear()
    }

    public func keyValueGradients(_ memory: AttentionMemory, slots: Range<Int>, into dKeysValues: Matrix<Operand>) {
        let memory = unsafeDowncast(memory, to: CPUMemory.self)
        let (size, width) = (memory.headSize, dKeysValues.columns / 2)
        for n in 0..<dKeysValues.rows {
            let (row, slot) = (n % memory.rows, slots.lowerBound + n / memory.rows)
            for h in 0..<memory.heads {
                let from = memory.overHead(row, h) + slot * roundedUp(size)
                let to = dKeysValues.floats + n * 2 * width + h * size
                to.update(from: memory.dKeys!.all.floats + from, count: size)
                (to + width).update(from: memory.dValues!.all.floats + from, count: size)
            }
        }
    }

    public func flush(_ gradients: PositionGradients, embeddings: Matrix<State>, bias: Matrix<State>) {
        let (heads, reach) = (gradients.bias.all.rows, gradients.bias.all.columns)
        let size = embeddings.columns / heads
        for h in 0..<heads {
            for c in 0..<reach {
                bias.floats[c * heads + h] += gradients.bias.all.floats[h * reach + c]
                feedback_add(
                    gradients.embeddings.all.floats + (h * reach + c) * roundedUp(size), size,
                    embeddings.floats + c * embeddings.columns + h * size)
            }
        }
        gradients.embeddings.all.clear()
        gradients.bias.all.clear()
    }

    public func unfoldPositions(
        _ dEmbeddings: Matrix<State>, dBias: Matrix<State>, dQueryBias: Matrix<State>, embeddings: Matrix<State>,
        queryBias: Matrix<State>, scale: Double
    ) {
        let (heads, size) = (dBias.columns, embeddings.columns / dBias.columns)
        for c in 0..<embeddings.rows {
            for d in 0..<embeddings.columns {
                let sum = Float(scale) * dBias.floats[c * heads + d / size]
                dEmbeddings.floats[c * embeddings.columns + d] -= queryBias.floats[d] * sum
                dQueryBias.floats[d] -= embeddings.floats[c * embeddings.columns + d] * sum
            }
        }
        for i in 0..<dBias.count { dBias.floats[i] *= Float(scale) }
    }
}
