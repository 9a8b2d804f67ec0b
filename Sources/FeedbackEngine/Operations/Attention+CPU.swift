import CKernels
import FeedbackTransformer

// The equations of Attention.swift, a row and a head at a time, on the layouts that the kernels want (CKernels.h).
// Both passes read keys and values in two directions, over slots and over the head, so training keeps each in both.

package final class CPUCache: KeyValueCache {
    package var rows: Int
    let slots, heads, headSize: Int
    let keysOverSlots: Buffer<Operand>
    let valuesOverHead: Buffer<Operand>
    /// Kept for training only.
    let keysOverHead, valuesOverSlots: Buffer<Operand>?
    let dKeys, dValues: Buffer<State>?
    /// How many numbers one head of one slot takes: in layouts with lanes over slots, and with lanes over the head.
    let sizeOverSlots, sizeOverHead: Int

    init(rows: Int, slots: Int, heads: Int, headSize: Int, training: Bool, executor: CPUExecutor) {
        let perRow = heads * feedback_padded(slots)
        sizeOverSlots = executor.paired(headSize)
        sizeOverHead = feedback_padded(headSize)
        keysOverSlots = executor.operand(rows, perRow * sizeOverSlots)
        valuesOverHead = executor.operand(rows, perRow * sizeOverHead)
        keysOverHead = training ? executor.operand(rows, perRow * sizeOverHead) : nil
        valuesOverSlots = training ? executor.operand(rows, perRow * sizeOverSlots) : nil
        dKeys = training ? executor.state(rows, perRow * sizeOverHead) : nil
        dValues = training ? executor.state(rows, perRow * sizeOverHead) : nil
        (self.rows, self.slots, self.heads, self.headSize) = (rows, slots, heads, headSize)
    }

    /// Where a row's head begins in a layout with lanes over slots.
    func overSlots(_ row: Int, _ head: Int) -> Int { (row * heads + head) * feedback_padded(slots) * sizeOverSlots }
    /// Where it begins in a layout with lanes over the head, and in the gradients.
    func overHead(_ row: Int, _ head: Int) -> Int { (row * heads + head) * feedback_padded(slots) * sizeOverHead }
}

/// U and S̃; offset o is at column reach − o of every table, and a margin of columns on either side is zero.
package final class CPUPositions: Sendable {
    let heads, headSize, reach: Int
    static var margin: Int { 16 }
    /// Uᵀ [H, K, columns], in pairs [H, K / 2, columns, 2].
    let overSlots: Buffer<Operand>
    /// S̃ [H, columns].
    let bias: Buffer<State>
    /// U [H, columns, K padded]. In bfloat16 columns lie in pairs, [H, columns / 2, K padded, 2], in two tables: a pair of slots
    /// may begin at an even or at an odd column.
    let overHead: [Buffer<Operand>]
    let sizeOverSlots: Int
    var columns: Int { feedback_padded(reach) + 2 * Self.margin }

    init(heads: Int, headSize: Int, reach: Int, executor: CPUExecutor) {
        let columns = feedback_padded(reach) + 2 * Self.margin
        sizeOverSlots = executor.paired(headSize)
        overSlots = executor.operand(heads * sizeOverSlots, columns)
        bias = executor.state(heads, columns)
        overHead = (0..<(executor.isNarrow ? 2 : 1)).map { _ in
            executor.operand(heads * columns, feedback_padded(headSize))
        }
        (self.heads, self.headSize, self.reach) = (heads, headSize, reach)
    }

    /// Where in the table over the head slot 0 has its position, for a step that sees slots up to `end`.
    func overHead(_ head: Int, end: Int) -> UnsafeMutableRawPointer {
        let column = reach - end
        let odd = overHead.count == 2 && column % 2 != 0
        return overHead[odd ? 1 : 0].all.pointer(
            (head * columns + Self.margin + column + (odd ? 1 : 0)) * feedback_padded(headSize))
    }
}

extension CPUExecutor {
    /// The numbers of a head: in bfloat16, where they are kept in pairs, rounded up to whole pairs.
    func paired(_ headSize: Int) -> Int { isNarrow ? (headSize + 1) & ~1 : headSize }

    package func makeCache(rows: Int, slots: Int, heads: Int, headSize: Int, training: Bool) -> CPUCache {
        CPUCache(rows: rows, slots: slots, heads: heads, headSize: headSize, training: training, executor: self)
    }
    package func makePositions(heads: Int, headSize: Int, reach: Int) -> CPUPositions {
        CPUPositions(heads: heads, headSize: headSize, reach: reach, executor: self)
    }
    package func makePositionGradients(heads: Int, headSize: Int, reach: Int) -> PositionGradients {
        PositionGradients(embeddings: state(heads * reach, feedback_padded(headSize)), bias: state(heads, reach))
    }
    /// The slots, and zeros before and behind that the gathering kernels may read.
    package func scoreColumns(slots: Int) -> Int { feedback_padded(slots) + 2 * scoreMargin }
    package var scoreMargin: Int { 16 }

    package func pack(
        _ positions: CPUPositions, embeddings: Matrix<State>, bias: Matrix<State>, queryBias: Matrix<State>,
        scale: Double
    ) {
        let (reach, size, columns) = (positions.reach, positions.headSize, positions.columns)
        precondition(embeddings.rows == reach && bias.rows == reach && queryBias.count == embeddings.columns)
        for h in 0..<positions.heads {
            let u = queryBias.floats + h * size
            for c in 0..<reach {
                let from = embeddings.floats + c * embeddings.columns + h * size
                let column = CPUPositions.margin + c
                var dot: Float = 0
                for k in 0..<size { dot += u[k] * from[k] }
                positions.bias.all.floats[h * columns + column] =
                    Float(scale) * (bias.floats[c * positions.heads + h] - dot)
                if isNarrow {
                    let overSlots = positions.overSlots.all.bfloats + h * positions.sizeOverSlots * columns + 2 * column
                    for k in 0..<size { overSlots[k / 2 * columns * 2 + k % 2] = bfloat16(from[k]) }
                    for (shift, table) in positions.overHead.enumerated() {
                        let at = column + shift
                        let pair = table.all.bfloats + (h * columns + at & ~1) * feedback_padded(size) + at % 2
                        for k in 0..<size { pair[2 * k] = bfloat16(from[k]) }
                    }
                } else {
                    let overSlots = positions.overSlots.all.floats + h * size * columns + column
                    for k in 0..<size { overSlots[k * columns] = from[k] }
                    (positions.overHead[0].all.floats + (h * columns + column) * feedback_padded(size))
                        .update(from: from, count: size)
                }
            }
        }
    }

    package func append(_ keysValues: Matrix<State>, to cache: CPUCache, slot: Int) {
        let (size, width) = (cache.headSize, keysValues.columns / 2)
        precondition(slot >= 0 && slot + keysValues.rows / cache.rows <= cache.slots)
        for n in 0..<keysValues.rows {
            let (row, at) = (n % cache.rows, slot + n / cache.rows)
            for h in 0..<cache.heads {
                let key = keysValues.floats + n * 2 * width + h * size
                let (slots, head) = (cache.overSlots(row, h), cache.overHead(row, h))
                kernels.append(
                    key, size, at, cache.keysOverSlots.all.pointer(slots),
                    cache.keysOverHead?.all.pointer(head))
                kernels.append(
                    key + width, size, at, cache.valuesOverSlots?.all.pointer(slots),
                    cache.valuesOverHead.all.pointer(head))
            }
        }
    }

    /// Calls `body` for every step, row and head of a block of queries, with where the head begins in the rows of
    /// queries, and where its row of scores begins.
    @inline(__always)
    private func forEachQuery(
        _ q: Matrix<Operand>, _ cache: CPUCache, _ visibility: Visibility, scores: Int,
        _ body: (_ row: Int, _ head: Int, _ visible: Range<Int>, _ at: Int, _ scores: Int) -> Void
    ) {
        let (rows, heads) = (cache.rows, cache.heads)
        for row in 0..<rows {
            for h in 0..<heads {
                for step in 0..<q.rows / rows {
                    let n = step * rows + row
                    body(
                        row, h, visibility.slots(step: step), n * q.columns + h * cache.headSize,
                        (n * heads + h) * scores + scoreMargin)
                }
            }
        }
    }

    package func attend(
        _ q: Matrix<Operand>, _ cache: CPUCache, _ positions: CPUPositions, _ visibility: Visibility,
        probabilities p: Matrix<Operand>, dropout: Dropout?, into context: Matrix<Operand>
    ) {
        assert(visibility.before > 0 && p.rows == q.rows * cache.heads && visibility.window <= positions.reach)
        let pair = isNarrow ? 2 : 1
        let positionScores = scores(p.rows, p.columns)
        // What positions add, for all rows at once: they have the same positions, which are so read once.
        for step in 0..<q.rows / cache.rows {
            let visible = visibility.slots(step: step)
            let column = CPUPositions.margin + positions.reach - visible.upperBound
            for h in 0..<cache.heads {
                let n = step * cache.rows
                kernels.scorePositions(
                    q.pointer(n * q.columns + h * cache.headSize), q.columns, cache.rows,
                    positions.overSlots.all.pointer(h * positions.sizeOverSlots * positions.columns + pair * column),
                    positions.columns, positions.bias.all.floats + h * positions.columns + column, visible.lowerBound,
                    visible.upperBound, cache.headSize,
                    positionScores.floats + (n * cache.heads + h) * p.columns + scoreMargin,
                    cache.heads * p.columns)
            }
        }
        forEachQuery(q, cache, visibility, scores: p.columns) { row, h, visible, at, scores in
            kernels.attend(
                q.pointer(at), cache.keysOverSlots.all.pointer(cache.overSlots(row, h)),
                cache.valuesOverHead.all.pointer(cache.overHead(row, h)), positionScores.floats + scores,
                visible.lowerBound, visible.upperBound, cache.headSize, p.pointer(scores), context.pointer(at),
                dropout?.part(h).rowKey(step: visible.upperBound, row: row) ?? 0, dropout?.threshold ?? 0,
                Float(dropout?.scale ?? 1))
        }
    }

    package func attendBackward(
        _ dContext: Matrix<Operand>, context: Matrix<Operand>, probabilities p: Matrix<Operand>,
        _ cache: CPUCache, _ positions: CPUPositions, _ visibility: Visibility, dropout: Dropout?,
        scoreGradients ds: Matrix<Operand>, into dq: Matrix<Operand>
    ) {
        let keys = cache.keysOverHead!.all
        let values = cache.valuesOverSlots!.all
        forEachQuery(dq, cache, visibility, scores: p.columns) { row, h, visible, at, scores in
            kernels.attendBackward(
                dContext.pointer(at), context.pointer(at), p.pointer(scores), keys.pointer(cache.overHead(row, h)),
                values.pointer(cache.overSlots(row, h)), positions.overHead(h, end: visible.upperBound),
                visible.lowerBound, visible.upperBound, cache.headSize, ds.pointer(scores), dq.pointer(at),
                Float(dropout?.scale ?? 1))
        }
    }

    package func gather(
        _ layers: [AttentionGradients], steps: Range<Int>, slots: Range<Int>, _ visibility: Visibility,
        accumulatingInto cache: CPUCache
    ) {
        if steps.isEmpty || slots.isEmpty { return }
        let (rows, heads, size) = (cache.rows, cache.heads, cache.headSize)
        func sum(_ a: Matrix<Operand>, _ b: Matrix<Operand>, into sums: Matrix<State>, row: Int, head h: Int) {
            kernels.gatherSlots(
                a.pointer((row * heads + h) * a.columns + scoreMargin), rows * heads * a.columns,
                b.pointer(row * b.columns + h * size), rows * b.columns, steps.lowerBound, steps.upperBound,
                slots.lowerBound, slots.upperBound, visibility.before, visibility.window, size,
                sums.floats + cache.overHead(row, h))
        }
        for row in 0..<rows {
            for h in 0..<heads {
                // The layers innermost: one head's sums stay in the cache.
                for layer in layers { sum(layer.scores, layer.query, into: cache.dKeys!.all, row: row, head: h) }
                for layer in layers {
                    sum(layer.probabilities, layer.context, into: cache.dValues!.all, row: row, head: h)
                }
            }
        }
    }

    package func gather(
        scoreGradients ds: Matrix<Operand>, q: Matrix<Operand>, rows: Int, _ visibility: Visibility,
        accumulatingInto gradients: PositionGradients
    ) {
        let (heads, reach) = (gradients.bias.all.rows, gradients.bias.all.columns)
        let (size, steps) = (q.columns / heads, q.rows / rows)
        for row in 0..<rows {
            for h in 0..<heads {
                let a = ds.pointer((row * heads + h) * ds.columns + scoreMargin)
                kernels.gatherOffsets(
                    a, rows * heads * ds.columns, q.pointer(row * q.columns + h * size), rows * q.columns, 0, steps,
                    visibility.before, reach, size,
                    gradients.embeddings.all.floats + h * reach * feedback_padded(size))
                kernels.sumOffsets(
                    a, rows * heads * ds.columns, 0, steps, visibility.before, reach,
                    gradients.bias.all.floats + h * reach)
            }
        }
    }

    package func clearGradients(_ cache: CPUCache) {
        cache.dKeys!.all.clear()
        cache.dValues!.all.clear()
    }

    package func keyValueGradients(_ cache: CPUCache, slots: Range<Int>, into dKeysValues: Matrix<Operand>) {
        let (size, width) = (cache.headSize, dKeysValues.columns / 2)
        for n in 0..<dKeysValues.rows {
            let (row, slot) = (n % cache.rows, slots.lowerBound + n / cache.rows)
            for h in 0..<cache.heads {
                let from = cache.overHead(row, h) + slot * feedback_padded(size)
                let to = n * 2 * width + h * size
                kernels.narrow(cache.dKeys!.all.floats + from, size, dKeysValues.pointer(to))
                kernels.narrow(cache.dValues!.all.floats + from, size, dKeysValues.pointer(to + width))
            }
        }
    }

    package func flush(_ gradients: PositionGradients, embeddings: Matrix<State>, bias: Matrix<State>) {
        let (heads, reach) = (gradients.bias.all.rows, gradients.bias.all.columns)
        let size = embeddings.columns / heads
        for h in 0..<heads {
            for c in 0..<reach {
                bias.floats[c * heads + h] += gradients.bias.all.floats[h * reach + c]
                feedback_add(
                    gradients.embeddings.all.floats + (h * reach + c) * feedback_padded(size), size,
                    embeddings.floats + c * embeddings.columns + h * size)
            }
        }
        gradients.embeddings.all.clear()
        gradients.bias.all.clear()
    }

    package func unfoldPositions(
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
