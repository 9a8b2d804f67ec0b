/// What to drop at one place of a layer (E14).
///
/// Whether an element is dropped is a function of a key and its column. The key is mixed from the run's seed, the optimizer
/// step, layer, place, time step and row of the batch; so it depends neither on the number of threads nor on when something is
/// computed, and a resumed run drops the same.
public struct Dropout: Sendable {
    /// ρ, in [0, 1).
    public let rate: Double
    /// What the keys of rows are mixed from, where a device mixes them itself.
    public let key: UInt64
    /// Which row of the batch is the first at hand: for the keys, rows are counted over the whole batch.
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
    public func part(_ index: Int) -> Dropout { Dropout(self, key: splitMix(key, UInt64(truncatingIfNeeded: index))) }

    /// The key of a row at a time step.
    public func rowKey(step: Int, row: Int) -> UInt32 {
        UInt32(truncatingIfNeeded: splitMix(splitMix(key, UInt64(step)), UInt64(firstRow + row)) >> 32)
    }

    /// A column is dropped where its hash is below this. It is 0 where the rate is so small that the scale is 1 in float32.
    public var threshold: UInt32 { Float(scale) == 1 ? 0 : UInt32(min(rate * 0x1p32, 0x1p32 - 1)) }
    /// 1 / (1 − ρ).
    public var scale: Double { 1 / (1 - rate) }
}
