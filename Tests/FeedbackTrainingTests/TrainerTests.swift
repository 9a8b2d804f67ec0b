import FeedbackEngine
import FeedbackTransformer
import Foundation
import Testing

@testable import FeedbackTraining

@Suite final class TrainerTests: SmallRunTests {
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

    /// A length in seconds becomes a number of steps before training begins, and finding it changes nothing: the run is
    /// that of so many steps.
    @Test(arguments: [false, true]) func secondsBecomeSteps(streams: Bool) throws {
        var configuration = smallConfiguration()
        (configuration.length, configuration.streams) = (.seconds(1), streams)
        let timed = try Trainer(configuration, corpus: corpus)
        #expect(timed.totalSteps >= 1 && timed.configuration.length == .steps(timed.totalSteps))
        configuration.length = timed.configuration.length
        let counted = try Trainer(configuration, corpus: corpus)
        for _ in 0..<min(5, timed.totalSteps) {
            let (one, other) = (try timed.trainStep(), try counted.trainStep())
            #expect(one.loss == other.loss && one.learningRate == other.learningRate)
        }
        #expect(timed.model.parameters.values == counted.model.parameters.values)
    }

    /// The same seed and threads give the same bits; another seed does not.
    @Test(arguments: [1, 2, 3]) func runsAreBitIdentical(threads: Int) throws {
        var configuration = smallConfiguration()
        configuration.threads = threads
        configuration.length = .steps(12)
        func parameters(seed: Int) throws -> [Float] {
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
        var steps: [Int] = []
        var validations: [Int] = []
        var samples: [Int] = []
        var checkpoints: [Int] = []
        let ending = try trainer.run(in: run) { event in
            switch event {
            case .step(let step): steps.append(step.number)
            case .validation(let step, _): validations.append(step)
            case .sample(let step, let text):
                samples.append(step)
                #expect(text.hasPrefix("\n") && text.count > 100)  // the default prompt is not in this vocabulary
            case .checkpoint(let step, let url):
                checkpoints.append(step)
                #expect(FileManager.default.fileExists(atPath: url.appending(path: "optimizer.safetensors").path))
            case .warning(_, let text): Issue.record("\(text)")
            }
        }
        #expect(ending == .completed && steps == Array(1...60) && validations == [25, 50, 60] && samples == [30, 60])
        // Each validation is the best so far: this text is learned quickly.
        #expect(checkpoints == [20, 25, 40, 50, 60])
        let lines = try String(contentsOf: folder.appending(path: "metrics.jsonl"), encoding: .utf8).split(
            separator: "\n")
        #expect(lines.count == 60 + 3 + 2)
        for line in lines { _ = try JSONSerialization.jsonObject(with: Data(line.utf8)) }
        #expect(try run.configuration() == trainer.configuration)
    }

    /// The newest two checkpoints and the best stay.
    @Test func oldCheckpointsGo() throws {
        var configuration = smallConfiguration()
        (configuration.checkpointInterval, configuration.evalInterval) = (5, 5)
        let trainer = try Trainer(configuration, corpus: corpus)
        let run = try RunFolder(creating: folder, configuration: configuration)
        try trainer.run(in: run)
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.appending(path: "checkpoints").path)
        let best = try #require(trainer.best?.step)
        let expected = Set([best, 55, 60].map { String(format: "step-%08d", $0) })
        #expect(Set(names) == expected.union(["best", "last"]))
        func target(_ link: String) throws -> String {
            try FileManager.default.destinationOfSymbolicLink(
                atPath: folder.appending(path: "checkpoints/\(link)").path)
        }
        #expect(try target("best") == String(format: "step-%08d", best))
        #expect(try target("last") == "step-00000060")
        #expect(try ModelFolder(contentsOf: folder.appending(path: "checkpoints/best")).tokenizer == trainer.tokenizer)
        #expect(RunFolder.newestCheckpoint(of: folder)?.lastPathComponent == "step-00000060")
        // As if the run had been killed between the best checkpoint and its link.
        trainer.best = (0, 55)
        try trainer.save(in: run)
        #expect(try target("best") == "step-00000055")
    }

    /// A loss that is not finite stops the run at its step; nothing of the model has changed, and the last good checkpoint
    /// is named and loads.
    @Test func divergenceStopsBeforeDamage() throws {
        var configuration = smallConfiguration()
        (configuration.length, configuration.checkpointInterval) = (.steps(10), 2)
        let trainer = try Trainer(configuration, corpus: corpus)
        let run = try RunFolder(creating: folder, configuration: configuration)
        var before: [Float] = []
        #expect {
            try trainer.run(in: run) { event in
                guard case .checkpoint(2, _) = event else { return }
                trainer.edit("generator.bias") { [.infinity] + $0.dropFirst() }
                before = trainer.model.parameters.values
            }
        } throws: { error in
            guard let error = error as? TrainingError else { return false }
            return error.step == 3 && error.lastGradientNorm > 0
                && error.checkpoint?.lastPathComponent == "step-00000002"
                && ["step 3", "learning rate of 0.0018 ", "gradient norm of nan", "step-00000002"].allSatisfy {
                    "\(error)".contains($0)
                }
        }
        #expect(trainer.model.parameters.values == before)
        #expect(trainer.step == 2)
        // Nor is such a model ever saved.
        #expect(throws: TrainingError.self) { try trainer.save(in: run) }
        #expect(try Trainer(resuming: run, corpus: corpus).step == 2)
    }

    /// A gradient that overflows while the loss is finite costs its step, nothing else: parameters and moments stay, what is
    /// carried is forgotten, and a run that goes on from there is the same. Ten such steps in a row are borne.
    @Test func overflowingGradientsAreSkipped() throws {
        var configuration = smallConfiguration()
        (configuration.length, configuration.streams) = (.steps(40), true)
        let trainer = try Trainer(configuration, corpus: corpus)
        _ = try trainer.trainStep()
        let values = trainer.model.parameters["transformer.key.linear.weight"]
        func scaleKeys(_ scale: Float) {
            trainer.edit("transformer.key.linear.weight") { _ in values.map { $0 * scale } }
        }
        // Scores of 1e30 are a finite softmax, with a gradient in the values that is not.
        scaleKeys(1e30)
        let (before, moments) = (trainer.model.parameters.values, trainer.session.read(.firstMoment).values)
        let skipped = try trainer.trainStep()
        #expect(skipped.loss.isFinite && skipped.gradientNorm == nil && skipped.number == 2)
        #expect(trainer.model.parameters.values == before && trainer.session.read(.firstMoment).values == moments)
        #expect(trainer.optimizer.updates == 1)
        for _ in 3...10 { #expect(try trainer.trainStep().gradientNorm == nil) }

        scaleKeys(1)
        let run = try RunFolder(creating: folder, configuration: trainer.configuration)
        try trainer.save(in: run)
        let resumed = try Trainer(resuming: run, corpus: corpus)
        #expect(resumed.skips == 9)
        #expect(try trainer.trainStep().loss == resumed.trainStep().loss)
        #expect(trainer.model.parameters.values == resumed.model.parameters.values && trainer.skips == 0)

        scaleKeys(1e30)
        for _ in 0..<10 { _ = try trainer.trainStep() }
        #expect { try trainer.trainStep() } throws: { "\($0)".contains("the gradient is not finite") }
    }

    /// Where validation or a sample is not finite, while training's own loss is, a run says so, goes on, and saves.
    @Test func whatIsNotFiniteElsewhereDoesNotEndTheRun() throws {
        var configuration = smallConfiguration()
        configuration.length = .steps(40)
        let trainer = try Trainer(configuration, corpus: corpus)
        let run = try RunFolder(creating: folder, configuration: trainer.configuration)
        var warnings: [Int: [String]] = [:]
        var good: [Float] = []
        let ending = try trainer.run(in: run) { event in
            switch event {
            case .step(let step) where [25, 30, 40].contains(step.number):
                good = trainer.model.parameters["src_embed.weight"]
                trainer.edit("src_embed.weight") { $0.map { _ in .infinity } }
            case .warning(let step, let text):
                warnings[step, default: []].append(text)
                // Mended before the next step, and before it is saved.
                if step == 40 && warnings[40]!.count == 1 { break }
                trainer.edit("src_embed.weight") { _ in good }
            default: break
            }
        }
        #expect(ending == .completed && trainer.step == 40 && trainer.best == nil)
        #expect(warnings.keys.sorted() == [25, 30, 40] && warnings[40]?.count == 2)
        #expect(warnings[25]?[0].hasPrefix("validation's loss is not finite, at a learning rate of 0.00") == true)
        #expect(RunFolder.newestCheckpoint(of: folder)?.lastPathComponent == "step-00000040")
    }

    /// The newest whole checkpoint is the last one, whatever the link says that a run was killed before it could set.
    @Test func theLinkToTheLastCheckpointIsMended() throws {
        let trainer = try Trainer(smallConfiguration(), corpus: corpus)
        let run = try RunFolder(creating: folder, configuration: trainer.configuration)
        try trainer.run(in: run)
        let link = folder.appending(path: "checkpoints/last")
        try FileManager.default.removeItem(at: link)
        try FileManager.default.createSymbolicLink(atPath: link.path, withDestinationPath: "step-00000040")
        try Trainer(resuming: run, corpus: corpus).run(in: run)
        #expect(try FileManager.default.destinationOfSymbolicLink(atPath: link.path) == "step-00000060")
    }

    /// A task's rows go on with their memories, but begin without any now and then: a model must learn to begin.
    @Test func tasksBeginAnewNowAndThen() throws {
        var configuration = smallConfiguration()
        (configuration.length, configuration.memoryWindow) = (.steps(100), 8)
        let corpus = TaskCorpus(Copying(reversed: true), training: 1, validation: 20, test: 1)
        let (one, forgetful) = (
            try Trainer(configuration, corpus: corpus), try Trainer(configuration, corpus: corpus)
        )
        func stepsAreEqual() throws -> Bool {
            forgetful.session.forget()
            return try one.trainStep().loss == forgetful.trainStep().loss
        }
        #expect(try stepsAreEqual())
        for _ in 2...64 { _ = (try one.trainStep(), try forgetful.trainStep()) }
        #expect(try stepsAreEqual())
        #expect(try !stepsAreEqual())
    }

    /// Training ends when the loss has not fallen for so many validations, also where it goes on from a checkpoint.
    @Test func patienceEndsARun() throws {
        var configuration = smallConfiguration()
        (configuration.learningRate, configuration.minimumLearningRate, configuration.patience) = (0, 0, 3)
        (configuration.evalInterval, configuration.sampleInterval, configuration.weightDecay) = (4, 1000, 0)
        let run = try RunFolder(creating: folder, configuration: configuration)
        let trainer = try Trainer(configuration, corpus: corpus)
        #expect(try trainer.run(in: run, shouldStop: { trainer.step == 9 }) == .stopped)
        let resumed = try Trainer(resuming: run, corpus: corpus)
        #expect(try resumed.run(in: run) == .outOfPatience)
        #expect(resumed.step == 16 && resumed.best?.step == 4)
        let ended = try Trainer(resuming: run, corpus: corpus)
        #expect(try ended.run(in: run) == .outOfPatience && ended.step == 16)
    }

    @Test func twoProcessesCannotTrainInOneFolder() throws {
        let configuration = smallConfiguration()
        let run = try RunFolder(creating: folder, configuration: configuration)
        let trainer = try Trainer(configuration, corpus: corpus)
        let other = try RunFolder(opening: folder)
        #expect(throws: FileError.self) { try other.begin(trainer) }
        #expect { try RunFolder(creating: folder, configuration: configuration) } throws: {
            "\($0)".contains("being trained by another process")
        }
        run.end()
        try other.begin(trainer)
    }

    @Test func settingsThatDoNotFitAreRefused() throws {
        let changes: [(inout RunConfiguration) -> Void] = [
            { $0.heads = 3 }, { $0.curriculum = try? Curriculum("0:20,5:60000") }, { $0.sequenceLength = 60_000 },
            { $0.minimumLearningRate = 1 },
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

    /// Damage to any file of a checkpoint is refused on resuming, with the checkpoint from which the run can go on.
    @Test(arguments: ["training.json", "optimizer.safetensors", "model.safetensors", "config.json", "tokenizer.json"])
    func damagedCheckpointsAreRefused(name: String) throws {
        let trainer = try Trainer(smallConfiguration(), corpus: corpus)
        let run = try RunFolder(creating: folder, configuration: trainer.configuration)
        _ = try trainer.trainStep()
        try trainer.save(in: run)
        for _ in 0..<2 { _ = try trainer.trainStep() }
        let checkpoint = try #require(try trainer.save(in: run))
        let file = checkpoint.appending(path: name)
        func expectRefusal() {
            let error = #expect(throws: FileError.self) { try Trainer(resuming: run, corpus: corpus) }
            let remedy = "; move \(checkpoint.path) away to go on from step 1"
            #expect(error?.description.hasSuffix(remedy) == true, "\(error?.description ?? "")")
        }
        let data = try Data(contentsOf: file)
        for damaged in [Data(), Data(data.prefix(data.count / 3)), Data(data.dropLast(2))] {
            try damaged.write(to: file)
            expectRefusal()
        }
        try FileManager.default.removeItem(at: file)
        expectRefusal()
        try FileManager.default.removeItem(at: checkpoint)
        #expect(try Trainer(resuming: run, corpus: corpus).step == 1)
    }

    /// A parallel model's parameters carry over by name; what a feedback model has besides is fresh, and said.
    @Test(arguments: KeyValueSharing.allCases, KeyValueSharing.allCases)
    func beginsWithAParallelModelsParameters(from: KeyValueSharing, to: KeyValueSharing) throws {
        var configuration = smallConfiguration()
        (configuration.memory, configuration.keyValue) = (.perLayer, from)
        let parallel = try Trainer(configuration, corpus: corpus)
        for _ in 0..<3 { _ = try parallel.trainStep() }
        (configuration.memory, configuration.keyValue) = (.feedback, to)
        let feedback = try Trainer(configuration, corpus: corpus)
        let drawn = feedback.model.parameters.table.parameters.map { feedback.model.parameters[$0.name] }
        let (fresh, unused) = try feedback.initialize(from: parallel.modelFolder)
        let shared = ["transformer.key.linear.weight", "transformer.value.linear.weight"]
        let own = (0..<2).flatMap { layer in
            ["key.linear.weight", "value.linear.weight", "value.linear.bias"].map {
                "transformer.layers.\(layer).attn.\($0)"
            }
        }
        #expect(Set(fresh) == Set(["transformer.weights"] + (from == to ? [] : to == .shared ? shared : own)))
        #expect(Set(unused) == Set(from == to ? [] : from == .shared ? shared : own))
        for (parameter, drawn) in zip(feedback.model.parameters.table.parameters, drawn) {
            let isFresh = fresh.contains(parameter.name)
            #expect(
                feedback.model.parameters[parameter.name]
                    == (isFresh ? drawn : parallel.model.parameters[parameter.name]))
        }
        // A start that is better than none.
        configuration.length = .steps(1)
        #expect(try feedback.trainStep().loss < Trainer(configuration, corpus: corpus).trainStep().loss)
    }

    @Test func otherSizesAreNoBeginning() throws {
        let first = try Trainer(smallConfiguration(), corpus: corpus).modelFolder
        let changes: [((inout RunConfiguration) -> Void, String)] = [
            ({ $0.dFF = 96 }, "has d-ff 64, this run has 96"), ({ $0.dModel = 16 }, "has d-model 32, this run has 16"),
            ({ $0.layers = 3 }, "has layers 2, this run has 3"), ({ $0.heads = 4 }, "has heads 2, this run has 4"),
            ({ $0.tokenizer = .bytes }, "another vocabulary"),
        ]
        for (change, message) in changes {
            var configuration = smallConfiguration()
            change(&configuration)
            let trainer = try Trainer(configuration, corpus: corpus)
            #expect {
                try trainer.initialize(from: first)
            } throws: { "\($0)".contains(message) }
        }
    }

    @Test func aRunsFolderIsNeverOverwritten() throws {
        let configuration = smallConfiguration()
        let run = try RunFolder(creating: folder, configuration: configuration)
        try Trainer(configuration, corpus: corpus).save(in: run)
        run.end()
        #expect { try RunFolder(creating: folder, configuration: configuration) } throws: {
            "\($0)".contains("is not empty")
        }
        #expect(throws: FileError.self) { try RunFolder(opening: folder.appending(path: "checkpoints")) }
    }
}

extension Trainer {
    /// Changes a parameter's numbers.
    fileprivate func edit(_ name: String, _ change: ([Float]) -> [Float]) {
        var parameters = session.read(.parameters)
        parameters[name] = change(parameters[name])
        session.write(parameters)
    }
}
