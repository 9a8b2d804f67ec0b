import FeedbackTransformer
import Foundation
import Testing

@testable import FeedbackTraining

@Suite struct CurriculumTests {
    @Test func readsItsOwnText() throws {
        let curriculum = try Curriculum("0:16,500:32,1000:64")
        #expect(curriculum.stages.map(\.start) == [0, 500, 1000])
        #expect(curriculum.stages.map(\.sequenceLength) == [16, 32, 64])
        #expect(try Curriculum("\(curriculum)") == curriculum)
    }

    @Test(arguments: [
        ("", "step:length pairs"), ("16", "step:length pairs"), ("0:16,", "has \"\""), ("0:16;5:3", "has \"0:16;5:3\""),
        ("0:16,5:x", "has \"5:x\""), ("0:16,5:32:64", "has \"5:32:64\""), ("0:0", "has \"0:0\""),
        ("0:-4", "has \"0:-4\""), ("0:99999999999999999999", "step:length pairs"), ("5:16", "begins at step 5"),
        ("0:16,500:32,400:64", "step 400 after step 500"), ("0:16,0:32", "step 0 after step 0"),
    ]) func malformedOnesAreRefused(text: String, message: String) {
        #expect {
            try Curriculum(text)
        } throws: { "\($0)".contains(message) }
    }

    /// Lengths change at their steps, and a step takes as many tokens as before.
    @Test func sequencesGrowAndBatchesShrink() throws {
        var configuration = smallConfiguration()
        (configuration.length, configuration.warmupSteps) = (.steps(30), 10)
        configuration.curriculum = try Curriculum("0:5,4:10,9:40")
        let trainer = try Trainer(configuration, corpus: TextCorpus(name: "small", text: smallText))
        var shapes: [[Int]] = []
        var rates: [Double] = []
        try trainer.run { event in
            guard case .step(let step) = event else { return }
            shapes.append([trainer.sequenceLength, trainer.batchSize, step.tokens])
            rates.append(step.learningRate)
        }
        let expected =
            Array(repeating: [5, 24, 120], count: 4) + Array(repeating: [10, 12, 120], count: 5)
            + Array(repeating: [40, 3, 120], count: 21)
        #expect(shapes == expected)
        let schedule = Schedule.cosine(peak: 3e-3, minimum: 3e-4, warmup: 10, total: 30)
        #expect(rates == (1...30).map(schedule.learningRate))
        #expect(trainer.modelFolder.sequenceLength == 40)
    }

    /// A length in seconds takes the stages' own speeds.
    @Test(arguments: [(0.0, 1), (3, 3), (10, 10), (14, 12), (30, 20), (31, 20), (34, 21), (400, 112)])
    func secondsOfStages(seconds: Double, steps: Int) {
        #expect(stepsOfStages(within: seconds, starts: [0, 10, 20]) { [1, 2, 4][$0] } == steps)
    }

    /// Moments of positions that a longer sequence reaches for the first time begin at zero; the others go on.
    @Test func optimizerGoesOn() throws {
        var configuration = smallConfiguration()
        configuration.curriculum = try Curriculum("0:5,4:20")
        let trainer = try Trainer(configuration, corpus: TextCorpus(name: "small", text: smallText))
        for _ in 0..<4 { _ = try trainer.trainStep() }
        let before = trainer.session.read(.secondMoment)["generator.weight"]
        let near = trainer.session.read(.secondMoment)["transformer.layers.0.attn.key_pos_embeddings"].count { $0 != 0 }
        _ = try trainer.trainStep()
        // v' = β₂ v + (1 − β₂) g² is never below β₂ v.
        let after = trainer.session.read(.secondMoment)["generator.weight"]
        #expect(before.contains { $0 > 0 } && zip(before, after).allSatisfy { $0.1 >= 0.9899 * $0.0 })
        #expect(trainer.optimizer.updates == 5)
        #expect(
            trainer.session.read(.secondMoment)["transformer.layers.0.attn.key_pos_embeddings"].count { $0 != 0 } > near
        )
    }
}
