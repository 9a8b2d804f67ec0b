import FeedbackTraining
import Foundation

/// Sixty lines of a made-up language: enough to learn from in a second.
let smallText: String = {
    let words = ["ba", "do", "ki", "lu", "me", "no"]
    let lines: [String] = (0..<60).map { line in
        let stride: Int = line % 3 + 1
        return (0..<8).map { words[(line * 7 + $0 * stride) % 6] }.joined(separator: " ")
    }
    return lines.joined(separator: "\n")
}()

func smallConfiguration() -> RunConfiguration {
    var configuration = RunConfiguration()
    (configuration.layers, configuration.dModel, configuration.heads, configuration.dFF) = (2, 32, 2, 64)
    (configuration.sequenceLength, configuration.batchSize, configuration.length) = (20, 6, .steps(60))
    (configuration.warmupSteps, configuration.threads) = (5, 2)
    (configuration.evalInterval, configuration.sampleInterval, configuration.checkpointInterval) = (25, 30, 20)
    configuration.learningRate = 3e-3
    configuration.minimumLearningRate = 3e-4
    return configuration
}

/// Tests that train on the small text, each with a folder of its own for runs, which goes with it.
class SmallRunTests {
    let corpus: TextCorpus
    let folder = FileManager.default.temporaryDirectory.appending(path: "feedback-run-\(UUID().uuidString)")

    init() throws { corpus = try TextCorpus(name: "small", text: smallText) }
    deinit { try? FileManager.default.removeItem(at: folder) }
}
