import CKernels

// E14: dropout (Srivastava et al. 2014)
//
//   forward    y  = z ∘ x / (1 − ρ)        z_i = 0 with probability ρ, else 1
//   backward   dx = z ∘ dy / (1 − ρ)
//
// z is drawn twice, not kept: whether an element is dropped is a function of a key and its column. The key is mixed from
// the run's seed, the optimizer step, layer, place, time step and row of the batch; so it depends neither on the number of
// threads nor on when something is computed, and a resumed run drops the same.
//
// On attention weights (E7), with p̂ = z ∘ p / (1 − ρ):
//
//   forward    c = Σ_j p̂_j v_j
//   backward   ds_j = p̂_j dp_j − p_j (dc·c)      since Σ_i p̂_i dp_i = dc·c
//
// There p is kept with a minus sign where it is dropped, until the backward pass puts p̂ in its place.

/// What to drop at one place of a layer.
public struct Dropout: Sendable {
    /// ρ, in [0, 1).
    public let rate: Double
    private let key: UInt64
    /// Which row of the batch is the tile's first: for the keys, rows are counted over the whole batch.
    public var firstRow = 0

    public init(rate: Double, seed: UInt64) {
        precondition(rate >= 0 && rate < 1, "a dropout rate of \(rate)")
        self.rate = rate
        key = seed
    }

    private init(_ other: Dropout, key: UInt64) {
        (rate, self.key, firstRow) = (other.rate, key, other.firstRow)
    }

    /// Another draw of the same rate, for a part of what this one is for.
    public func part(_ index: Int) -> Dropout { Dropout(self, key: mix(key, UInt64(truncatingIfNeeded: index))) }

    /// The key of a row at a time step.
    func rowKey(step: Int, row: Int) -> UInt32 {
        UInt32(truncatingIfNeeded: mix(mix(key, UInt64(step)), UInt64(firstRow + row)) >> 32)
    }

    /// A column is dropped where its hash is below this. It is 0 where the rate is so small that the scale is 1 in float32: by
    /// the scale the attention kernels tell whether there is dropout.
    var threshold: UInt32 { Float(scale) == 1 ? 0 : UInt32(min(rate * 0x1p32, 0x1p32 - 1)) }
    var scale: Double { 1 / (1 - rate) }

    /// 1 / (1 − ρ) or 0.
    func factor(_ rowKey: UInt32, column: Int) -> Double {
        feedback_hash(rowKey, UInt32(truncatingIfNeeded: column)) < threshold ? 0 : scale
    }
}

/// Dropout in one layer, for a block of steps.
public struct BlockDropout {
    public enum Place: Int {
        case attentionWeights, attentionOutput, hidden, feedForwardOutput
    }
    let layer: Dropout
    /// The first time step, and the rows of each.
    let step, rows: Int
    /// Room for what a residual branch adds, [n·rows, D].
    let branch: Matrix<State>

    public init(layer: Dropout, step: Int, rows: Int, branch: Matrix<State>) {
        self.layer = layer
        self.step = step
        self.rows = rows
        self.branch = branch
    }

    public func at(_ place: Place) -> Dropout { layer.part(place.rawValue) }
}

extension Executor {
    /// x = z ∘ x / (1 − ρ).
    public func drop(_ x: Matrix<Operand>, _ dropout: BlockDropout?, _ place: BlockDropout.Place) {
        if let dropout { drop(x, dropout.at(place), step: dropout.step, rows: dropout.rows) }
    }

    /// x += z ∘ (h Wᵀ + b) / (1 − ρ): what a block of a layer adds to the residual stream.
    public func residual(
        _ h: Matrix<Operand>, _ map: PackedLinear, _ dropout: BlockDropout?, _ place: BlockDropout.Place,
        accumulatingInto x: Matrix<State>
    ) {
        guard let dropout else { return linear(h, map, accumulatingInto: x) }
        let branch = dropout.branch.rows(0..<x.rows)
        linear(h, map, into: branch)
        drop(branch, dropout.at(place), step: dropout.step, rows: dropout.rows)
        add(branch, accumulatingInto: x)
    }
}

/// One step of SplitMix64 (Steele et al. 2014) on two numbers.
private func mix(_ a: UInt64, _ b: UInt64) -> UInt64 {
    var z = a &+ 0x9e37_79b9_7f4a_7c15 &* (b &+ 1)
    z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
    return z ^ z >> 31
}

public protocol DropoutOperations {
    /// x = z ∘ x / (1 − ρ), for [n·rows, columns] of `rows` rows a time step, the first of which is `step`.
    func drop(_ x: Matrix<State>, _ dropout: Dropout, step: Int, rows: Int)
    /// x = z ∘ x / (1 − ρ).
    func drop(_ x: Matrix<Operand>, _ dropout: Dropout, step: Int, rows: Int)
}

extension ReferenceExecutor {
    private func dropAll<Role>(_ x: Matrix<Role>, _ dropout: Dropout, step: Int, rows: Int) {
        for n in 0..<x.rows {
            let key = dropout.rowKey(step: step + n / rows, row: n % rows)
            for c in 0..<x.columns { x.doubles[n * x.columns + c] *= dropout.factor(key, column: c) }
        }
    }
    public func drop(_ x: Matrix<State>, _ dropout: Dropout, step: Int, rows: Int) {
        dropAll(x, dropout, step: step, rows: rows)
    }
    public func drop(_ x: Matrix<Operand>, _ dropout: Dropout, step: Int, rows: Int) {
        dropAll(x, dropout, step: step, rows: rows)
    }
}

extension CPUExecutor {
    private func dropAll<Role>(
        _ x: Matrix<Role>, _ dropout: Dropout, step: Int, rows: Int,
        _ kernel: (UnsafeMutableRawPointer?, Int, UInt32, UInt32, Float) -> Void
    ) {
        for n in 0..<x.rows {
            kernel(
                x.pointer(n * x.columns), x.columns, dropout.rowKey(step: step + n / rows, row: n % rows),
                dropout.threshold, Float(dropout.scale))
        }
    }
    public func drop(_ x: Matrix<State>, _ dropout: Dropout, step: Int, rows: Int) {
        dropAll(x, dropout, step: step, rows: rows, float32.drop)
    }
    public func drop(_ x: Matrix<Operand>, _ dropout: Dropout, step: Int, rows: Int) {
        dropAll(x, dropout, step: step, rows: rows, kernels.drop)
    }
}
