import FeedbackTransformer
import Foundation
import Testing

@testable import FeedbackTraining

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

@Suite struct TrainerTests {
    private let corpus: TextCorpus
    private let folder: URL

    init() throws {
        corpus = try TextCorpus(name: "small", text: smallText)
        folder = FileManager.default.temporaryDirectory.appending(path: "feedback-run-\(UUID().uuidString)")
    }

    @Test(arguments: MemoryRouting.allCases) func learns(memory: MemoryRouting) throws {
        var configuration = smallConfiguration()
        configuration.memory = memory
        let trainer = try Trainer(configuration, corpus: corpus)
        let before = try trainer.validate().loss
        try trainer.run()
        let after = try trainer.validate()
        #expect(before > 2 && after.loss < 1.3, "\(before) to \(after.loss)")
        #expect(abs(after.bitsPerCharacter - after.loss / log(2)) < 1e-12)
        #expect(after.perplexity == exp(after.loss))
    }

    /// The same seed and threads give the same bits; another seed does not.
    @Test(arguments: [1, 2, 3]) func runsAreBitIdentical(threads: Int) throws {
        var configuration = smallConfiguration()
        configuration.threads = threads
        configuration.length = .steps(12)
        func parameters(seed: Int) throws -> [Double] {
            configuration.seed = seed
            let trainer = try Trainer(configuration, corpus: corpus)
            try trainer.run()
            return trainer.model.parameters.values
        }
        let first = try parameters(seed: 1)
        #expect(try parameters(seed: 1) == first)
        #expect(try parameters(seed: 2) != first)
    }

    @Test func reportsEverythingAtItsInterval() throws {
        let trainer = try Trainer(smallConfiguration(), corpus: corpus)
        let run = try RunFolder(creating: folder, configuration: trainer.configuration)
        defer { try? FileManager.default.removeItem(at: folder) }
        var steps: [Int] = []
        var validations: [Int] = []
        var samples: [Int] = []
        var checkpoints: [Int] = []
        let finished = try trainer.run(in: run) { event in
            switch event {
            case .step(let step): steps.append(step.number)
            case .validation(let step, _): validations.append(step)
            case .sample(let step, let text):
                samples.append(step)
                #expect(text.hasPrefix("\n") && text.count > 100)  // the default prompt is not in this vocabulary
            case .checkpoint(let step, let url):
                checkpoints.append(step)
                #expect(FileManager.default.fileExists(atPath: url.appending(path: "optimizer.safetensors").path))
            }
        }
        #expect(finished && steps == Array(1...60) && validations == [25, 50, 60] && samples == [30, 60])
        #expect(checkpoints == [20, 40, 60])
        let lines = try String(contentsOf: folder.appending(path: "metrics.jsonl"), encoding: .utf8).split(
            separator: "\n")
        #expect(lines.count == 60 + 3 + 2)
        for line in lines { _ = try JSONSerialization.jsonObject(with: Data(line.utf8)) }
        #expect(try run.configuration() == trainer.configuration)
    }

    /// Stopped at any step and resumed, a run ends with the same bits as one that was not.
    @Test func resumedRunsEndTheSame() throws {
        let whole = try Trainer(smallConfiguration(), corpus: corpus)
        try whole.run()
        defer { try? FileManager.default.removeItem(at: folder) }
        let first = try Trainer(smallConfiguration(), corpus: corpus)
        let run = try RunFolder(creating: folder, configuration: first.configuration)
        #expect(
            try first.run(in: run) { _ in
            } shouldStop: {
                first.step == 33
            } == false)
        let second = try Trainer(resuming: RunFolder(opening: folder), corpus: corpus)
        #expect(second.step == 33)
        #expect(try second.run(in: RunFolder(opening: folder)))
        #expect(second.model.parameters.values == whole.model.parameters.values)
        #expect(second.optimizer.v.values == whole.optimizer.v.values)
        #expect(second.loader.cursor == whole.loader.cursor)
        #expect(second.best?.loss == whole.best?.loss)
    }

    /// The newest two checkpoints and the best stay.
    @Test func oldCheckpointsGo() throws {
        var configuration = smallConfiguration()
        (configuration.checkpointInterval, configuration.evalInterval) = (5, 5)
        let trainer = try Trainer(configuration, corpus: corpus)
        let run = try RunFolder(creating: folder, configuration: configuration)
        defer { try? FileManager.default.removeItem(at: folder) }
        try trainer.run(in: run)
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.appending(path: "checkpoints").path)
        let best = try #require(trainer.best?.step)
        let expected = Set([best, 55, 60].map { String(format: "step-%08d", $0) })
        #expect(Set(names) == expected)
        #expect(RunFolder.newestCheckpoint(of: folder)?.lastPathComponent == "step-00000060")
    }

    /// A loss that is not finite stops the run at its step; nothing of the model has changed.
    @Test func divergenceStopsBeforeDamage() throws {
        var configuration = smallConfiguration()
        configuration.length = .steps(10)
        let trainer = try Trainer(configuration, corpus: corpus)
        _ = try trainer.trainStep()
        trainer.model.parameters["generator.bias"][0] = .infinity
        trainer.parametersChanged()
        let before = trainer.model.parameters.values
        #expect {
            try trainer.run()
        } throws: { error in
            (error as? TrainingError)?.step == 2 && "\(error)".contains("step 2")
                && "\(error)".contains("learning rate")
        }
        #expect(trainer.model.parameters.values == before)
        #expect(trainer.step == 1)
    }

    @Test func settingsThatDoNotFitAreRefused() throws {
        let changes: [(inout RunConfiguration) -> Void] = [
            { $0.heads = 3 }, { $0.sequenceLength = 60_000 }, { $0.minimumLearningRate = 1 },
            { ($0.dModel, $0.dFF, $0.layers) = (65536, 1 << 20, 1000) },
            {
                ($0.batchSize, $0.threads) = (65536, 1024)
                $0.dModel = 8192
            },
        ]
        for (index, change) in changes.enumerated() {
            var configuration = smallConfiguration()
            change(&configuration)
            #expect(throws: (any Error).self, "change \(index)") { try Trainer(configuration, corpus: corpus) }
        }
        #expect(throws: CorpusError.self) {
            try Trainer(smallConfiguration(), corpus: TextCorpus(name: "tiny", text: "abc"))
        }
    }

    /// Damage to any file of a checkpoint is refused on resuming.
    @Test(arguments: ["training.json", "optimizer.safetensors", "model.safetensors", "config.json", "tokenizer.json"])
    func damagedCheckpointsAreRefused(name: String) throws {
        let trainer = try Trainer(smallConfiguration(), corpus: corpus)
        let run = try RunFolder(creating: folder, configuration: trainer.configuration)
        defer { try? FileManager.default.removeItem(at: folder) }
        for _ in 0..<3 { _ = try trainer.trainStep() }
        let checkpoint = try run.save(trainer)
        let file = checkpoint.appending(path: name)
        let data = try Data(contentsOf: file)
        for damaged in [Data(), Data(data.prefix(data.count / 3)), Data(data.dropLast(2))] {
            try damaged.write(to: file)
            #expect(throws: (any Error).self) { try Trainer(resuming: run, corpus: corpus) }
        }
        try FileManager.default.removeItem(at: file)
        #expect(throws: (any Error).self) { try Trainer(resuming: run, corpus: corpus) }
    }

    @Test func beginsWithAnotherModelsParameters() throws {
        var configuration = smallConfiguration()
        configuration.memory = .perLayer
        let parallel = try Trainer(configuration, corpus: corpus)
        for _ in 0..<3 { _ = try parallel.trainStep() }
        configuration.memory = .feedback
        let feedback = try Trainer(configuration, corpus: corpus)
        #expect(try feedback.initialize(from: parallel.modelFolder) == ["transformer.weights"])
        for parameter in parallel.model.parameters.table.parameters {
            #expect(
                feedback.model.parameters[parameter.name] == parallel.model.parameters[parameter.name])
        }
        configuration.dFF = 96
        let wider = try Trainer(configuration, corpus: corpus)
        #expect(throws: ConfigurationError.self) { try wider.initialize(from: parallel.modelFolder) }
    }

    @Test func aRunsFolderIsNeverOverwritten() throws {
        let configuration = smallConfiguration()
        _ = try RunFolder(creating: folder, configuration: configuration)
        defer { try? FileManager.default.removeItem(at: folder) }
        #expect(throws: FileError.self) { try RunFolder(creating: folder, configuration: configuration) }
        #expect(throws: FileError.self) { try Trainer(resuming: RunFolder(opening: folder), corpus: corpus) }
        #expect(throws: FileError.self) { try RunFolder(opening: folder.appending(path: "checkpoints")) }
    }
}
