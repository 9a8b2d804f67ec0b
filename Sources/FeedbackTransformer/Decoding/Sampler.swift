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
            throw ConfigurationError("temperature is \(temperature); it must be a number from 0 on")
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

        var candidates = logits.indices.map { Candidate(logit: logits[$0], token: $0) }
        if let topK { candidates = candidates.largest(topK) }
        for n in candidates.indices {
            candidates[n].weight = exp(Double(candidates[n].logit - largest) / temperature)
        }
        // The largest weighs 1.
        if let minP { candidates.removeAll { $0.weight < minP } }
        var total = candidates.totalWeight
        if let topP {
            // Those so light that all of them would not be what is left over need not be sorted.
            let lightest = (1 - topP) * total / Double(candidates.count)
            candidates.removeAll { $0.weight < lightest }
            candidates.sort(by: >)
            var (sum, kept) = (0.0, 0)
            while kept < candidates.count, kept == 0 || sum < topP * total {
                sum += candidates[kept].weight
                kept += 1
            }
            candidates.removeLast(candidates.count - kept)
            total = sum
        }
        var left = random.uniform() * total
        for candidate in candidates {
            left -= candidate.weight
            if left < 0 { return Int32(candidate.token) }
        }
        // A rounded sum may leave something.
        return Int32(candidates.max()!.token)
    }
}

/// A token that may be next; of two with equal logits the earlier is the larger.
private struct Candidate: Comparable {
    let logit: Float
    let token: Int
    var weight = 0.0

    static func < (a: Self, b: Self) -> Bool { a.logit < b.logit || a.logit == b.logit && a.token > b.token }
}

extension [Candidate] {
    fileprivate var totalWeight: Double { reduce(0) { $0 + $1.weight } }

    /// The `count` largest, in no order, without sorting the others.
    fileprivate func largest(_ count: Int) -> Self {
        if count >= self.count { return self }
        var kept = Heap(Array(prefix(count)))
        for candidate in dropFirst(count) where kept.first! < candidate { kept.replaceFirst(with: candidate) }
        return kept.elements
    }
}
