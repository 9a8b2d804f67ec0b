import Foundation

/// What a model computes is not a number, or too large to be one.
public struct NotFiniteError: Error, Equatable, CustomStringConvertible {
    private let what: String
    public init(_ what: String) { self.what = what }
    public var description: String {
        "the model's \(what) is not finite; its training has diverged or its files are damaged"
    }
}

/// Chooses the next token from logits.
///
/// In this order: the `topK` largest logits are kept; logits are divided by `temperature`; of the resulting
/// probabilities those are kept that are at least `minP` times the largest (Nguyen et al. 2024), and of these the fewest
/// largest that together reach `topP` (Holtzman et al. 2020); one is drawn. A temperature of 0 takes the largest logit, the
/// lowest token among equals.
public struct Sampler: Sendable {
    public let temperature: Double
    public let topK: Int?
    public let topP: Double?
    public let minP: Double?
    private var random: RandomSource

    /// Throws on a temperature that is negative or not finite, a `topK` below 1, a `topP` outside (0, 1], a `minP`
    /// outside [0, 1].
    public init(temperature: Double = 1, topK: Int? = nil, topP: Double? = nil, minP: Double? = nil, seed: UInt64 = 0)
        throws(ConfigurationError)
    {
        guard temperature.isFinite && temperature >= 0 else {
            throw ConfigurationError("temperature is \(temperature); it must be 0 or more")
        }
        if let topK, topK < 1 { throw ConfigurationError("top-k is \(topK); it must be 1 or more") }
        if let topP, !(topP > 0 && topP <= 1) {
            throw ConfigurationError("top-p is \(topP); it must be above 0 and at most 1")
        }
        if let minP, !(0...1).contains(minP) {
            throw ConfigurationError("min-p is \(minP); it must be from 0 to 1")
        }
        self.temperature = temperature
        self.topK = topK
        self.topP = topP
        self.minP = minP
        random = RandomSource(seed: seed)
    }

    /// The next token. Throws where a logit is not finite.
    public mutating func next(_ logits: [Float]) throws(NotFiniteError) -> Int32 {
        guard let largest = logits.max(), logits.allSatisfy(\.isFinite) else { throw NotFiniteError("output") }
        if temperature == 0 { return Int32(logits.firstIndex(of: largest)!) }

        // Largest first; equals in the order of their tokens.
        var candidates = logits.indices.sorted { (logits[$1], $0) < (logits[$0], $1) }
        if let topK { candidates = Array(candidates.prefix(topK)) }
        var weights = candidates.map { exp(Double(logits[$0] - largest) / temperature) }
        // They fall, and the largest is 1.
        if let minP { weights = Array(weights.prefix { $0 >= minP }) }
        var total = weights.reduce(0, +)
        if let topP {
            var sum = 0.0
            var kept = 0
            while kept < weights.count, kept == 0 || sum < topP * total {
                sum += weights[kept]
                kept += 1
            }
            weights = Array(weights.prefix(kept))
            total = sum
        }
        var left = random.uniform() * total
        for (candidate, weight) in zip(candidates, weights) {
            left -= weight
            if left < 0 { return Int32(candidate) }
        }
        return Int32(candidates[weights.count - 1])
    }
}
