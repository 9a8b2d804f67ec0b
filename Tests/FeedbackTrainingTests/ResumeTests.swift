import FeedbackEngine
import FeedbackTransformer
import Foundation
import Testing

@testable import FeedbackTraining

/// A run that is stopped and goes on from its checkpoint ends with the same bytes as one that was never stopped.
@Suite final class ResumeTests: SmallRunTests {
    enum Variant: String, CaseIterable {
        case plain, accumulated, curriculum, dropped, parallel, streams, streamsOfLayers, narrowStreams
        case lessons, windowsOfLessons, repeated, bytePairs

        func apply(to configuration: inout RunConfiguration) throws {
            switch self {
            case .plain: break
            case .accumulated: (configuration.accumulate, configuration.batchSize) = (3, 2)
            case .curriculum: configuration.curriculum = try Curriculum("0:8,20:12,30:20")
            case .dropped:
                (configuration.dropout, configuration.accumulate) = (0.2, 2)
                configuration.curriculum = try Curriculum("0:8,20:12,30:20")
            case .streams:
                (configuration.streams, configuration.memoryWindow, configuration.accumulate) = (true, 33, 2)
                configuration.curriculum = try Curriculum("0:8,20:12,30:20")
            case .narrowStreams:
                configuration.streams = true
                if RunConfiguration.Precision.bfloat16.isSupported { configuration.precision = .bfloat16 }
            case .streamsOfLayers:
                (configuration.streams, configuration.memory, configuration.keyValue) = (true, .perLayer, .perLayer)
            case .lessons:
                (configuration.lessons, configuration.hints) = (try Lessons("0:1-4,18:2-9,1%:20"), true)
                (configuration.accumulate, configuration.curriculum) = (2, try Curriculum("0:8,19:12,25:20"))
            case .windowsOfLessons:
                (configuration.lessons, configuration.streams) = (try Lessons("0:1-4,20:2-9"), false)
            case .bytePairs: (configuration.tokenizer, configuration.vocabularySize) = (.bpe, 270)
            case .repeated: configuration.sequences = 30
            case .parallel: (configuration.memory, configuration.keyValue) = (.perLayer, .perLayer)
            }
        }
    }

    /// A task for lessons, or the text.
    private func corpus(_ variant: Variant) -> any Corpus {
        switch variant {
        case .lessons, .windowsOfLessons, .repeated:
            TaskCorpus(VariableAssignment(variables: 2), training: 1, validation: 5, test: 1)
        default: corpus
        }
    }

    /// The files of a run's last checkpoint.
    private func bytes(_ run: String) throws -> [String: Data] {
        let last = folder.appending(path: run).appending(path: "checkpoints/last")
        let names = try FileManager.default.contentsOfDirectory(atPath: last.resolvingSymlinksInPath().path)
        return try Dictionary(
            uniqueKeysWithValues: names.map { ($0, try Data(contentsOf: last.appending(path: $0))) })
    }

    /// Stopped in the middle of an epoch, at the change of a stage, and inside a stage.
    @Test(arguments: Variant.allCases, [1, 2]) func endsWithTheSameBytes(variant: Variant, threads: Int) throws {
        var configuration = smallConfiguration()
        (configuration.length, configuration.threads) = (.steps(40), threads)
        (configuration.evalInterval, configuration.sampleInterval) = (15, 1000)
        try variant.apply(to: &configuration)
        let corpus = corpus(variant)
        let whole = try RunFolder(creating: folder.appending(path: "whole"), configuration: configuration)
        try Trainer(configuration, corpus: corpus).run(in: whole)

        let parts = try RunFolder(creating: folder.appending(path: "parts"), configuration: configuration)
        let first = try Trainer(configuration, corpus: corpus)
        #expect(try first.run(in: parts, shouldStop: { first.step == 20 }) == .stopped)
        let second = try Trainer(resuming: parts, corpus: corpus)
        #expect(second.step == 20)
        #expect(try second.run(in: parts, shouldStop: { second.step == 33 }) == .stopped)
        #expect(try Trainer(resuming: parts, corpus: corpus).run(in: parts) == .completed)

        let (expected, actual) = (try bytes("whole"), try bytes("parts"))
        let files = ["config.json", "model.safetensors", "optimizer.safetensors", "tokenizer.json", "training.json"]
        #expect(Set(expected.keys) == Set(files + (first.configuration.streams == true ? ["memory.safetensors"] : [])))
        for (name, data) in expected { #expect(actual[name] == data, "\(name)") }
    }

    /// A run from before there were normalised memories and fresh sequences goes on as it was: its files name neither.
    @Test func runsFromBeforeGoOn() throws {
        let corpus = corpus(.repeated)
        var configuration = smallConfiguration()
        (configuration.memoryNorm, configuration.sequences) = (.none, 10_000)
        let run = try RunFolder(creating: folder, configuration: configuration)
        let trainer = try Trainer(configuration, corpus: corpus)
        for _ in 0..<2 { _ = try trainer.trainStep() }
        let checkpoint = try #require(try trainer.save(in: run))
        let expected = try trainer.trainStep().loss
        func drop(_ file: URL, _ isOf: @escaping (Substring) -> Bool) throws {
            let lines = try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
            #expect(lines.contains(where: isOf))
            try Data(lines.filter { !isOf($0) }.joined(separator: "\n").utf8).write(to: file)
        }
        for name in ["memory-norm", "sequences"] {
            try drop(folder.appending(path: "config.yaml")) { $0.hasPrefix("\(name):") }
            try drop(checkpoint.appending(path: "training.json")) { $0.contains("\"\(name)\"") }
        }
        try drop(checkpoint.appending(path: "config.json")) { $0.contains("\"memoryNorm\"") }
        #expect(try Trainer(resuming: run, corpus: corpus).trainStep().loss == expected)
    }

    /// A run that was killed has metrics of steps that are taken again, perhaps half a line of them, and half-written
    /// checkpoints; both go.
    @Test func nothingStaysOfStepsAfterTheCheckpoint() throws {
        var configuration = smallConfiguration()
        configuration.length = .steps(40)
        let run = try RunFolder(creating: folder, configuration: configuration)
        let trainer = try Trainer(configuration, corpus: corpus)
        try trainer.run(in: run, shouldStop: { trainer.step == 28 })
        let file = folder.appending(path: "metrics.jsonl")
        let good = try Data(contentsOf: file)
        try (good + Data("{\"loss\":1,\"step\":29}\n{\"loss\":1,\"st".utf8)).write(to: file)
        let leftover = folder.appending(path: "checkpoints/.step-00000030.new-1")
        try FileManager.default.createDirectory(at: leftover, withIntermediateDirectories: false)
        try Trainer(resuming: run, corpus: corpus).run(in: run)
        let lines = try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
        #expect(lines.count == 40 + 2 + 2)
        #expect(lines.filter { $0.contains("\"step\":29,") || $0.contains("\"step\":29}") }.count == 1)
        #expect(try Data(contentsOf: file).starts(with: good))
        #expect(!FileManager.default.fileExists(atPath: leftover.path))
    }

    /// The error names the setting and both values.
    @Test func aRunOfAnotherConfigurationIsRefused() throws {
        var configuration = smallConfiguration()
        let run = try RunFolder(creating: folder, configuration: configuration)
        let trainer = try Trainer(configuration, corpus: corpus)
        for _ in 0..<2 { _ = try trainer.trainStep() }
        try trainer.save(in: run)
        #expect {
            try Trainer(resuming: run, corpus: TextCorpus(name: "small", text: smallText + "a"))
        } throws: { "\($0)".contains("is not the data") }
        configuration.dFF = 96
        try Data(configuration.yaml().utf8).write(to: folder.appending(path: "config.yaml"))
        #expect {
            try Trainer(resuming: run, corpus: corpus)
        } throws: { "\($0)".contains("has d-ff 96") && "\($0)".contains("with d-ff 64") }
    }

    /// What a damaged checkpoint has counted is refused before more is added to it.
    @Test func countsBeyondReasonAreRefused() throws {
        var configuration = smallConfiguration()
        configuration.lessons = try Lessons("0:1-4,50%:2-9")
        let corpus = corpus(.lessons)
        let run = try RunFolder(creating: folder, configuration: configuration)
        let trainer = try Trainer(configuration, corpus: corpus)
        for _ in 0..<2 { _ = try trainer.trainStep() }
        let file = try #require(try trainer.save(in: run)).appending(path: "training.json")
        let state = try String(contentsOf: file, encoding: .utf8)
        let damaged = state.replacing(/"answers" : \d+/, with: "\"answers\" : \(Int.max)")
        #expect(damaged != state)
        try Data(damaged.utf8).write(to: file)
        #expect(throws: FileError.self) { try Trainer(resuming: run, corpus: corpus) }
    }

    /// The memory goes on: with another, the next step is another.
    @Test func theCarriedMemoryCounts() throws {
        var configuration = smallConfiguration()
        configuration.streams = true
        let run = try RunFolder(creating: folder, configuration: configuration)
        let trainer = try Trainer(configuration, corpus: corpus)
        for _ in 0..<2 { _ = try trainer.trainStep() }
        let checkpoint = try #require(try trainer.save(in: run))
        let loss = try trainer.trainStep().loss
        #expect(try Trainer(resuming: run, corpus: corpus).trainStep().loss == loss)
        let file = checkpoint.appending(path: "memory.safetensors")
        let memory = try Safetensors(contentsOf: file)
        #expect(memory.entries["memory.0"]?.shape == [20, 6, 32])
        let values = try memory.floats("memory.0")
        try Safetensors.write([.init(name: "memory.0", shape: [20, 6, 32], values: values.map { -$0 }[...])], to: file)
        #expect(try Trainer(resuming: run, corpus: corpus).trainStep().loss != loss)
        try Safetensors.write(
            [.init(name: "memory.0", shape: [20, 5, 32], values: values.prefix(20 * 5 * 32))], to: file)
        #expect(throws: FileError.self) { try Trainer(resuming: run, corpus: corpus) }
        try FileManager.default.removeItem(at: file)
        #expect(throws: FileError.self) { try Trainer(resuming: run, corpus: corpus) }
    }
}
