import FeedbackTransformer
import Foundation
import Testing

@Suite struct SamplerTests {
    private let logits: [Float] = [1, 3, 2, 3, -5]

    private func counts(_ sampler: Sampler, of logits: [Float], draws: Int = 4000) throws -> [Int] {
        var sampler = sampler
        var counts = Array(repeating: 0, count: logits.count)
        for _ in 0..<draws { counts[Int(try sampler.next(logits))] += 1 }
        return counts
    }

    @Test func zeroTemperatureTakesTheFirstOfTheLargest() throws {
        #expect(try counts(Sampler(temperature: 0, seed: 4), of: logits, draws: 10) == [0, 10, 0, 0, 0])
    }

    @Test(arguments: [0.5, 1, 2]) func frequenciesFollowTheSoftmax(temperature: Double) throws {
        let weights = logits.map { exp(Double($0) / temperature) }
        let total = weights.reduce(0, +)
        let counts = try counts(Sampler(temperature: temperature, seed: 1), of: logits)
        for (count, weight) in zip(counts, weights) {
            let share = weight / total
            #expect(abs(Double(count) / 4000 - share) < 4 * (share * (1 - share) / 4000).squareRoot() + 1e-9)
        }
    }

    @Test func topKKeepsTheLargest() throws {
        let one = try counts(Sampler(topK: 1), of: logits)
        #expect(one == [0, 4000, 0, 0, 0])
        let three = try counts(Sampler(topK: 3), of: logits)
        #expect(three[0] == 0 && three[4] == 0 && three[1] > 0 && three[2] > 0 && three[3] > 0)
        #expect(try counts(Sampler(topK: 100), of: logits).count { $0 > 0 } >= 4)
    }

    /// Probabilities 8/15, 4/15, 2/15, 1/15: what is less than so many times the first goes.
    @Test func minPLeavesOutWhatIsUnlikely() throws {
        let logits: [Float] = [3, 2, 1, 0].map { $0 * Float(log(2.0)) }
        #expect(try counts(Sampler(minP: 0.2), of: logits)[3] == 0)
        #expect(try counts(Sampler(minP: 0.2), of: logits)[2] > 0)
        #expect(try counts(Sampler(minP: 0.6), of: logits) == [4000, 0, 0, 0])
        #expect(try counts(Sampler(minP: 0), of: logits)[3] > 0)
    }

    @Test func topPKeepsTheFewestThatReachIt() throws {
        // Probabilities 0.5, 0.3, 0.15, 0.05.
        let logits: [Float] = [0.5, 0.3, 0.15, 0.05].map { log($0) }
        #expect(try counts(Sampler(topP: 0.4), of: logits) == [4000, 0, 0, 0])
        let two = try counts(Sampler(topP: 0.7), of: logits)
        #expect(two[2] == 0 && two[3] == 0 && two[1] > 0)
        #expect(try counts(Sampler(topP: 1), of: logits)[3] > 0)
    }

    /// What is drawn, of many logits with equals among them, is what the definition keeps after sorting all.
    @Test(arguments: [
        (nil, nil, nil), (3, nil, nil), (40, nil, nil), (nil, 0.6, nil), (nil, 1, nil), (nil, nil, 0.3), (9, 0.8, 0.1),
    ])
    func drawsWhatTheDefinitionKeeps(topK: Int?, topP: Double?, minP: Double?) throws {
        var random = RandomSource(seed: 3)
        for seed in 0..<10 {
            let logits = (0..<20).map { _ in Float(random.below(8)) / 4 }
            var kept = logits.indices.sorted { (-logits[$0], $0) < (-logits[$1], $1) }.prefix(topK ?? 20)
            func weight(_ token: Int) -> Double { exp(Double(logits[token]) / 0.7) }
            kept = kept.prefix { weight($0) >= (minP ?? 0) * weight(kept[0]) }
            let total = kept.reduce(0) { $0 + weight($1) }
            if let topP {
                var sum = 0.0
                kept = kept.prefix { token in
                    defer { sum += weight(token) }
                    return sum < topP * total
                }
            }
            let sampler = try Sampler(temperature: 0.7, topK: topK, topP: topP, minP: minP, seed: UInt64(seed))
            let drawn = try counts(sampler, of: logits, draws: 1000).enumerated().filter { $0.element > 0 }.map(
                \.offset)
            #expect(drawn == kept.sorted())
        }
    }

    @Test func theSameSeedGivesTheSameTokens() throws {
        var (a, b, c) = (try Sampler(seed: 8), try Sampler(seed: 8), try Sampler(seed: 9))
        let (x, y, z) = try (
            (0..<50).map { _ in try a.next(logits) }, (0..<50).map { _ in try b.next(logits) },
            (0..<50).map { _ in try c.next(logits) }
        )
        #expect(x == y)
        #expect(x != z)
    }

    @Test func impossibleSettingsAreRefused() {
        for temperature in [-0.1, .nan, .infinity] {
            #expect(throws: ConfigurationError.self) { try Sampler(temperature: temperature) }
        }
        #expect(throws: ConfigurationError.self) { try Sampler(topK: 0) }
        for minP in [-0.1, 1.01, .nan] { #expect(throws: ConfigurationError.self) { try Sampler(minP: minP) } }
        for topP in [0, -1, 1.01, .nan] { #expect(throws: ConfigurationError.self) { try Sampler(topP: topP) } }
    }

    @Test func outputThatIsNotFiniteIsRefused() throws {
        var sampler = try Sampler()
        #expect(throws: NotFiniteError("output")) { try sampler.next([1, .nan]) }
        #expect(throws: NotFiniteError("output")) { try sampler.next([1, .infinity]) }
    }
}
