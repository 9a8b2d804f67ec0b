import Foundation

/// A seeded source of random numbers whose state can be saved: xoshiro256** (Blackman & Vigna 2018), seeded by
/// SplitMix64. The same seed gives the same numbers on every machine.
public struct RandomSource: Equatable, Sendable {
    /// The generator's whole state, four words, not all zero.
    public private(set) var state: [UInt64]

    public init(seed: UInt64) { state = (0..<4).map { splitMix(seed, $0) } }

    /// Continues from a saved state; nil where it is none.
    public init?(state: [UInt64]) {
        guard state.count == 4, state.contains(where: { $0 != 0 }) else { return nil }
        self.state = state
    }

    public mutating func next() -> UInt64 {
        let product = state[1] &* 5
        let result = ((product << 7) | (product >> 57)) &* 9
        let shifted = state[1] << 17
        state[2] ^= state[0]
        state[3] ^= state[1]
        state[1] ^= state[2]
        state[0] ^= state[3]
        state[2] ^= shifted
        state[3] = (state[3] << 45) | (state[3] >> 19)
        return result
    }

    /// Uniform in [0, 1), with 53 random bits.
    public mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }

    /// Uniform in 0 ..< bound, without bias: the upper word of next() · bound, of which the lower words that would be one too many
    /// for some numbers, those below 2⁶⁴ mod bound, are drawn again (Lemire 2019).
    public mutating func below(_ bound: Int) -> Int {
        let bound = UInt64(bound)
        var product = next().multipliedFullWidth(by: bound)
        if product.low < bound {
            let excess = (0 &- bound) % bound
            while product.low < excess { product = next().multipliedFullWidth(by: bound) }
        }
        return Int(product.high)
    }

    /// Puts some values in random order, each order as likely as any other: every place from the first on takes one of what is left
    /// (Fisher & Yates).
    public mutating func shuffle<Value>(_ values: inout [Value]) {
        for place in values.indices.dropLast() { values.swapAt(place, place + below(values.count - place)) }
    }

    /// Standard normal (Box & Muller 1958).
    public mutating func normal() -> Double {
        let radius = (-2 * log(1 - uniform())).squareRoot()
        return radius * cos(2 * .pi * uniform())
    }
}

/// SplitMix64 (Steele et al. 2014): the number at an index, from 0, of what it draws from a seed.
func splitMix(_ seed: UInt64, _ index: UInt64) -> UInt64 {
    var z = seed &+ 0x9e37_79b9_7f4a_7c15 &* (index &+ 1)
    z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
    return z ^ z >> 31
}
