import FeedbackTransformer
import Foundation
import Testing

@testable import FeedbackEngine
@testable import FeedbackTraining

/// Ranks of threads give the same bytes as one process with as many threads in all.
@Suite final class RanksTests: SmallRunTests {
    enum Variant: String, CaseIterable {
        case plain, dropped, narrowStreams, parallel, normedPerLayer, seconds

        func apply(to configuration: inout RunConfiguration) throws {
            switch self {
            case .plain: (configuration.patience, configuration.gradientClip) = (3, 0.5)
            case .dropped:
                (configuration.dropout, configuration.accumulate) = (0.2, 2)
                configuration.curriculum = try Curriculum("0:8,10:12,15:20")
            case .narrowStreams:
                (configuration.streams, configuration.memoryWindow) = (true, 33)
                if RunConfiguration.Precision.bfloat16.isSupported { configuration.precision = .bfloat16 }
            case .parallel: (configuration.memory, configuration.keyValue) = (.perLayer, .perLayer)
            case .normedPerLayer: (configuration.keyValue, configuration.memoryNorm) = (.perLayer, .layer)
            case .seconds: configuration.length = .seconds(1)
            }
        }
    }

    /// What a run ends with, on so many ranks of so many threads; from where it is, and to a step.
    private func train(
        _ variant: Variant, _ threads: [Int], to last: Int = .max, in name: String? = nil
    ) throws -> (files: [String: Data], step: Int, ranks: ThreadRanks) {
        let (corpus, run) = (corpus, folder.appending(path: name ?? "\(variant)-\(threads)"))
        let (results, ranks) = ThreadRanks.run(threads.count) { rank in
            var configuration = smallConfiguration()
            (configuration.length, configuration.batchSize, configuration.evalInterval) = (.steps(20), 7, 5)
            configuration.sampleInterval = 1000
            try variant.apply(to: &configuration)
            let isThere = FileManager.default.fileExists(atPath: run.appending(path: "config.yaml").path)
            // All have looked, none has begun.
            let goesOn = rank.allGather([isThere])[0][0]
            configuration.threads = threads[rank.rank]
            let trainer: Trainer
            let place: RunFolder?
            if goesOn {
                let own = try RunFolder(opening: run)
                var asked = try own.configuration()
                asked.threads = threads[rank.rank]
                trainer = try Trainer(resuming: own, corpus: corpus, asked: asked, communicator: rank)
                place = rank.isFirst ? own : nil
            } else {
                trainer = try Trainer(configuration, corpus: corpus, communicator: rank)
                place = rank.isFirst ? try RunFolder(creating: run, configuration: trainer.configuration) : nil
            }
            try trainer.run(in: place, shouldStop: { trainer.step >= last && !rank.isFirst || trainer.step == last })
            return trainer.step
        }
        let step = try results.map { try $0.get() }[0]
        let checkpoint = run.appending(path: "checkpoints/last").resolvingSymlinksInPath()
        let names = ["model.safetensors", "optimizer.safetensors", "memory.safetensors"]
        var files: [String: Data] = [:]
        for name in names { files[name] = try? Data(contentsOf: checkpoint.appending(path: name)) }
        return (files, step, ranks)
    }

    @Test(arguments: Variant.allCases.filter { $0 != .seconds }) func sameBytes(variant: Variant) throws {
        let expected = try train(variant, [4])
        #expect(expected.files.count == (variant == .narrowStreams ? 3 : 2))
        for threads in [[2, 2], [1, 1, 1, 1], [1, 3]] {
            let actual = try train(variant, threads)
            #expect(actual.step == expected.step && actual.files == expected.files, "\(threads)")
        }
        // More threads than rows.
        #expect(try train(variant, [8]).files == train(variant, [4, 4]).files)
    }

    /// Stopped by any rank, a run goes on with fewer or more of them.
    @Test(arguments: [Variant.dropped, .narrowStreams]) func goesOnWithOtherRanks(variant: Variant) throws {
        let expected = try train(variant, [4]).files
        let name = "parts"
        #expect(try train(variant, [2, 2], to: 7, in: name).step == 7)
        #expect(try train(variant, [4], to: 13, in: name).step == 13)
        #expect(try train(variant, [1, 1, 1, 1], in: name).files == expected)
    }

    /// All take the first rank's time for theirs.
    @Test func secondsAreTheSame() throws { #expect(try train(.seconds, [1, 2]).step > 0) }

    /// A step sends 4 bytes a parameter twice to as many ranks as there are others, from all of them together.
    @Test(arguments: [2, 4]) func sendsTwiceWhatThereIs(count: Int) throws {
        var model = smallConfiguration().model(vocabulary: 12)
        (model.keyValue, model.memoryNorm) = (.perLayer, .none)
        let configuration = model
        let shape = BatchShape(steps: 20, batchSize: 4)
        let (results, ranks) = ThreadRanks.run(count) { rank in
            var backend = CPUBackend()
            backend.communicator = rank
            let session = try backend.training(try FeedbackModel(configuration, seed: 1), shape)
            let tokens = (0..<80).map { Int32($0 % 12) }
            _ = session.gradient(of: [Batch(steps: 20, rows: 4, inputs: tokens, targets: tokens)], dropout: nil)
            _ = session.gradientNorm()
            session.update(AdamStep(learningRate: 1e-3, number: 1), decay: 0)
            return session.read(.parameters)
        }
        let parameters = try results.map { try $0.get() }
        #expect(parameters.dropFirst().allSatisfy { $0 == parameters[0] })
        let trained = ParameterTable(configuration).trainable(reach: 20).reduce(0) { $0 + $1.range.count }
        #expect(ranks.bytesSent.reduce(0, +) == 2 * 4 * trained * (count - 1))
        // The shards are about equal.
        let mean = 2 * 4 * trained * (count - 1) / count
        #expect(ranks.bytesSent.allSatisfy { abs($0 - mean) < mean / 2 }, "\(ranks.bytesSent) of \(mean)")
    }

    @Test func differencesEndAllRanks() throws {
        let other = try TextCorpus(name: "small", text: smallText.replacing("ba", with: "ab"))
        let own = corpus
        for (what, rows, texts) in [
            ("in its data", 6, [own, other]), ("2 ranks cannot share a batch of 1 rows", 1, [own, own]),
        ] {
            let (results, _) = ThreadRanks.run(2) { rank in
                var configuration = smallConfiguration()
                configuration.batchSize = rows
                _ = try Trainer(configuration, corpus: texts[rank.rank], communicator: rank)
            }
            for result in results {
                #expect { try result.get() } throws: { "\($0)".contains(what) }
            }
        }
    }

    @Test func partsOfTheTreeAreFew() {
        #expect(GradientReduction.subtrees(of: 0..<8, within: 4..<8) == [4..<8])
        #expect(GradientReduction.subtrees(of: 0..<6, within: 0..<3) == [0..<2, 2..<3])
        #expect(GradientReduction.subtrees(of: 0..<6, within: 3..<6) == [3..<4, 4..<6])
        #expect(GradientReduction.workers([2, 2], rows: 3) == [0..<1, 1..<3])
        #expect(GradientReduction.workers([1, 3], rows: 8) == [0..<1, 1..<4])
    }
}
