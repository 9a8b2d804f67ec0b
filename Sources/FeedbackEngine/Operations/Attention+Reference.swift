import FeedbackTransformer
import Foundation

// The equations of Attention.swift in plain loops.

package final class ReferenceCache: KeyValueCache {
    package var rows: Int
    let slots, heads, headSize: Int
    /// [rows, slots, D] each.
    var keys: [Double], values: [Double], dKeys: [Double], dValues: [Double]

    init(rows: Int, slots: Int, heads: Int, headSize: Int) {
        let none = Array(repeating: 0.0, count: rows * slots * heads * headSize)
        (keys, values, dKeys, dValues) = (none, none, none, none)
        (self.rows, self.slots, self.heads, self.headSize) = (rows, slots, heads, headSize)
    }

    func index(row: Int, slot: Int) -> Int { (row * slots + slot) * heads * headSize }
}

package final class ReferencePositions: @unchecked Sendable {
    let heads, headSize, reach: Int
    var embeddings: [Double] = []  // U, [reach, D]
    var bias: [Double] = []  // S̃, [reach, H]

    init(heads: Int, headSize: Int, reach: Int) {
        (self.heads, self.headSize, self.reach) = (heads, headSize, reach)
    }
}

/// One query: step i of a block, row b, head h.
private struct Query {
    let step: Int, row: Int, head: Int
    /// Where its head begins in q, c and their gradients.
    let at: Int
    /// Where its row begins in p and ds.
    let scores: Int
}

/// Every query of n·B rows of q, in order.
private func queries(_ q: Matrix<Operand>, rows: Int, heads: Int, columns: Int) -> [Query] {
    let size = q.columns / heads
    return (0..<q.rows).flatMap { n in
        (0..<heads).map { h in
            Query(
                step: n / rows, row: n % rows, head: h, at: n * q.columns + h * size, scores: (n * heads + h) * columns)
        }
    }
}

extension ReferenceExecutor {
    package func makeCache(rows: Int, slots: Int, heads: Int, headSize: Int, training: Bool) -> ReferenceCache {
        ReferenceCache(rows: rows, slots: slots, heads: heads, headSize: headSize)
    }
    package func makePositions(heads: Int, headSize: Int, reach: Int) -> ReferencePositions {
        ReferencePositions(heads: heads, headSize: headSize, reach: reach)
    }
    package func makePositionGradients(heads: Int, headSize: Int, reach: Int) -> PositionGradients {
        PositionGradients(embeddings: state(heads * reach, headSize), bias: state(heads, reach))
    }
    package func scoreColumns(slots: Int) -> Int { slots }
    package var scoreMargin: Int { 0 }

    package func pack(
        _ positions: ReferencePositions, embeddings: Matrix<State>, bias: Matrix<State>, queryBias: Matrix<State>,
        scale: Double
    ) {
        positions.embeddings = embeddings.values
        positions.bias = (0..<bias.count).map { i in
            let (row, head) = (i / positions.heads, i % positions.heads)
            let dot = (0..<positions.headSize).reduce(0.0) { sum, k in
                let at = head * positions.headSize + k
                return sum + queryBias.doubles[at] * embeddings.doubles[row * embeddings.columns + at]
            }
            return scale * (bias.doubles[i] - dot)
        }
    }

    package func append(_ keysValues: Matrix<State>, to cache: ReferenceCache, slot: Int) {
        let size = keysValues.columns / 2
        for n in 0..<keysValues.rows {
            let to = cache.index(row: n % cache.rows, slot: slot + n / cache.rows)
            for d in 0..<size {
                cache.keys[to + d] = keysValues.doubles[n * 2 * size + d]
                cache.values[to + d] = keysValues.doubles[n * 2 * size + size + d]
            }
        }
    }

    package func attend(
        _ q: Matrix<Operand>, _ cache: ReferenceCache, _ positions: ReferencePositions, _ visibility: Visibility,
        probabilities p: Matrix<Operand>, dropout: Dropout?, into context: Matrix<Operand>
    ) {
        let size = cache.headSize
        for query in queries(q, rows: cache.rows, heads: cache.heads, columns: p.columns) {
            let visible = visibility.slots(step: query.step)
            // 1. s_j = q̃·(k_j + U_o) + S̃_o
            var scores = visible.map { j in
                let offset = positions.reach - (visible.upperBound - j)
                let key = cache.index(row: query.row, slot: j) + query.head * size
                let position = offset * q.columns + query.head * size
                return (0..<size).reduce(positions.bias[offset * cache.heads + query.head]) {
                    $0 + q.doubles[query.at + $1] * (cache.keys[key + $1] + positions.embeddings[position + $1])
                }
            }
            // 2. p = softmax_j s
            let largest = scores.max()!
            scores = scores.map { exp($0 - largest) }
            let total = scores.reduce(0, +)
            for j in 0..<cache.slots { p.doubles[query.scores + j] = 0 }
            for (j, score) in zip(visible, scores) { p.doubles[query.scores + j] = score / total }
            // 3. c = Σ_j p̂_j v_j
            let key = dropout?.part(query.head).rowKey(step: visible.upperBound, row: query.row)
            var kept = visible.map { p.doubles[query.scores + $0] }
            if let dropout, let key {
                for (i, j) in visible.enumerated() {
                    kept[i] *= dropout.factor(key, column: j)
                    if kept[i] == 0 { p.doubles[query.scores + j].negate() }
                }
            }
            for k in 0..<size {
                context.doubles[query.at + k] = zip(visible, kept).reduce(0) {
                    let value = cache.index(row: query.row, slot: $1.0) + query.head * size + k
                    return $0 + $1.1 * cache.values[value]
                }
            }
        }
    }

    package func attendBackward(
        _ dContext: Matrix<Operand>, context: Matrix<Operand>, probabilities p: Matrix<Operand>,
        _ cache: ReferenceCache, _ positions: ReferencePositions, _ visibility: Visibility, dropout: Dropout?,
        scoreGradients ds: Matrix<Operand>, into dq: Matrix<Operand>
    ) {
        let size = cache.headSize
        for query in queries(dq, rows: cache.rows, heads: cache.heads, columns: p.columns) {
            let visible = visibility.slots(step: query.step)
            // 3. dp_j = dc·v_j and 2. ds_j = p̂_j dp_j − p_j (dc·c); without dropout p̂ = p
            let own = (0..<size).reduce(0) {
                $0 + dContext.doubles[query.at + $1] * context.doubles[query.at + $1]
            }
            for j in 0..<cache.slots { ds.doubles[query.scores + j] = 0 }
            for j in visible {
                let value = cache.index(row: query.row, slot: j) + query.head * size
                let dp = (0..<size).reduce(0) { $0 + dContext.doubles[query.at + $1] * cache.values[value + $1] }
                let weight = p.doubles[query.scores + j]
                let kept = max(0, weight) * (dropout?.scale ?? 1)
                ds.doubles[query.scores + j] = kept * dp - abs(weight) * own
                p.doubles[query.scores + j] = kept
            }
            // 1. dq̃ = Σ_j ds_j (k_j + U_o)
            for k in 0..<size {
                dq.doubles[query.at + k] = visible.reduce(0) {
                    let offset = positions.reach - (visible.upperBound - $1)
                    let key = cache.keys[cache.index(row: query.row, slot: $1) + query.head * size + k]
                    let position = positions.embeddings[offset * dq.columns + query.head * size + k]
                    return $0 + ds.doubles[query.scores + $1] * (key + position)
                }
            }
        }
    }

    package func gather(
        _ layers: [AttentionGradients], steps: Range<Int>, slots: Range<Int>, _ visibility: Visibility,
        accumulatingInto cache: ReferenceCache
    ) {
        for layer in layers {
            let (ds, p, q, dc) = (layer.scores, layer.probabilities, layer.query, layer.context)
            for query in queries(q, rows: cache.rows, heads: cache.heads, columns: p.columns)
            where steps.contains(query.step) {
                for j in visibility.slots(step: query.step).clamped(to: slots) {
                    let to = cache.index(row: query.row, slot: j) + query.head * cache.headSize
                    for k in 0..<cache.headSize {
                        cache.dKeys[to + k] += ds.doubles[query.scores + j] * q.doubles[query.at + k]
                        cache.dValues[to + k] += p.doubles[query.scores + j] * dc.doubles[query.at + k]
                    }
                }
            }
        }
    }

    package func gather(
        scoreGradients ds: Matrix<Operand>, q: Matrix<Operand>, rows: Int, _ visibility: Visibility,
        accumulatingInto gradients: PositionGradients
    ) {
        let (heads, reach) = (gradients.bias.all.rows, gradients.bias.all.columns)
        let size = q.columns / heads
        for query in queries(q, rows: rows, heads: heads, columns: ds.columns) {
            let visible = visibility.slots(step: query.step)
            for j in visible {
                let row = query.head * reach + reach - (visible.upperBound - j)
                gradients.bias.all.doubles[row] += ds.doubles[query.scores + j]
                for k in 0..<size {
                    gradients.embeddings.all.doubles[row * size + k] +=
                        ds.doubles[query.scores + j] * q.doubles[query.at + k]
                }
            }
        }
    }

    package func clearGradients(_ cache: ReferenceCache) {
        for i in cache.dKeys.indices { (cache.dKeys[i], cache.dValues[i]) = (0, 0) }
    }

    package func keyValueGradients(_ cache: ReferenceCache, slots: Range<Int>, into dKeysValues: Matrix<Operand>) {
        let size = cache.heads * cache.headSize
        for n in 0..<dKeysValues.rows {
            let from = cache.index(row: n % cache.rows, slot: slots.lowerBound + n / cache.rows)
            for d in 0..<size {
                dKeysValues.doubles[n * 2 * size + d] = cache.dKeys[from + d]
                dKeysValues.doubles[n * 2 * size + size + d] = cache.dValues[from + d]
            }
        }
    }

    package func flush(_ gradients: PositionGradients, embeddings: Matrix<State>, bias: Matrix<State>) {
        let (heads, reach) = (gradients.bias.all.rows, gradients.bias.all.columns)
        let size = embeddings.columns / heads
        for h in 0..<heads {
            for c in 0..<reach {
                bias.doubles[c * heads + h] += gradients.bias.all.doubles[h * reach + c]
                for k in 0..<size {
                    embeddings.doubles[c * embeddings.columns + h * size + k] +=
                        gradients.embeddings.all.doubles[(h * reach + c) * size + k]
                }
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
                let sum = scale * dBias.doubles[c * heads + d / size]
                dEmbeddings.doubles[c * embeddings.columns + d] -= queryBias.doubles[d] * sum
                dQueryBias.doubles[d] -= embeddings.doubles[c * embeddings.columns + d] * sum
            }
        }
        for i in 0..<dBias.count { dBias.doubles[i] *= scale }
    }
}
