import FeedbackEngine
import FeedbackRuns
import FeedbackServer
import FeedbackTransformer
import Foundation

@testable import FeedbackTraining

/// A kind of input from outside.
struct Subject: Sendable {
    let name: String
    /// What to begin with.
    let corpus: [[UInt8]]
    /// Reads an input, and uses what it has read. Throws where the input is refused, `Wrong` where it should have been.
    let read: @Sendable ([UInt8]) throws -> Void

    /// - Parameter corpus: besides the kept one of that name.
    private init(_ name: String, _ corpus: [[UInt8]] = [], read: @escaping @Sendable ([UInt8]) throws -> Void) throws {
        let kept = Bundle.module.resourceURL!.appending(path: "Corpus/\(name)")
        let names = (try? FileManager.default.contentsOfDirectory(atPath: kept.path)) ?? []
        self.name = name
        self.corpus = try names.sorted().map { Array(try Data(contentsOf: kept.appending(path: $0))) } + corpus
        self.read = read
    }

    /// One whose input is a file in a folder of its own, a copy of another.
    private init(
        _ name: String, file path: String, of folder: URL, read: @escaping @Sendable (_ folder: URL) throws -> Void
    ) throws {
        let copy = folder.deletingLastPathComponent().appending(path: "\(name).copy")
        try FileManager.default.copyItem(at: folder, to: copy)
        let file = copy.appending(path: path)
        try self.init(name, [Array(try Data(contentsOf: file))]) { input in
            try Data(input).write(to: file)
            try read(copy)
        }
    }

    /// All, with what they need in a folder.
    static func all(in folder: URL) async throws -> [Subject] {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        return try files(folder) + foreign(folder) + checkpoints(folder) + (await requests(folder))
    }

    // MARK: Files

    private static let text = String(repeating: "to be or not to be, that is it. ", count: 40)

    private static func files(_ folder: URL) throws -> [Subject] {
        let file = folder.appending(path: "file")
        func bytes(_ write: (URL) throws -> Void) throws -> [UInt8] {
            try write(file)
            return Array(try Data(contentsOf: file))
        }
        let tensors: [Safetensors.Tensor] = [
            .init(name: "b", shape: [2, 3], values: [1, 2, 3, 4, 5, 6]), .init(name: "a", shape: [], values: [0]),
            .init(name: "none", shape: [0, 4], values: []),
        ]
        let fixture = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "FeedbackTrainingTests/Fixtures/feedback-kv.safetensors")
        let model = folder.appending(path: "model")
        try tiny().save(to: model)
        @Sendable func generate(_ folder: URL) throws {
            let folder = try ModelFolder(contentsOf: folder)
            var generator = try TextGenerator(
                folder, on: CPUBackend(), prompt: folder.tokenizer.decode([0]), maxTokens: 3,
                sampler: Sampler(temperature: 0.8, seed: 1))
            while try generator.next() != nil {}
        }
        return [
            try Subject("safetensors", [try bytes { try Safetensors.write(tensors, to: $0) }]) { input in
                try Data(input).write(to: file)
                let tensors = try Safetensors(contentsOf: file)
                for (name, entry) in tensors.entries {
                    let count = entry.shape.reduce(1, *)
                    guard try entry.dtype != .f32 || tensors.floats(name).count == count,
                        try entry.dtype != .i32 || tensors.integers(name).count == count
                    else { throw Wrong(description: "\(name) has not \(count) values") }
                }
            },
            try Subject("fixture", [Array(try Data(contentsOf: fixture))]) { input in
                try Data(input).write(to: file)
                _ = try Fixture(contentsOf: file).verify(on: CPUBackend())
            },
            try Subject(
                "tokenizer.json",
                try Tokenizer.Kind.allCases.map { kind in try bytes { try Tokenizer(kind, text: text).write(to: $0) } }
            ) { input in
                try Data(input).write(to: file)
                let tokenizer = try Tokenizer(contentsOf: file)
                _ = tokenizer.decode(0..<Int32(tokenizer.vocabularySize))
                _ = try? tokenizer.encode(text)
                try tokenizer.write(to: file)
                guard try Tokenizer(contentsOf: file) == tokenizer else {
                    throw Wrong(description: "it is another when it has been written")
                }
            },
            try Subject("text", [Array(text.utf8)]) { input in
                guard let text = String(validating: input, as: UTF8.self) else { throw Refused() }
                for kind in Tokenizer.Kind.allCases.reversed() {
                    let tokenizer = try Tokenizer(kind, text: text)
                    if tokenizer.vocabularySize == 0 { throw Refused() }
                    let decoded = tokenizer.decode(try tokenizer.encode(text))
                    try tokenizer.write(to: file)
                    guard try Tokenizer(contentsOf: file) == tokenizer,
                        tokenizer.separator != "" || decoded.utf8.elementsEqual(input)
                    else { throw Wrong(description: "it is another as \(kind)") }
                }
            },
            try Subject("config.json", file: "config.json", of: model, read: generate),
            try Subject("model.safetensors", file: "model.safetensors", of: model, read: generate),
            try Subject("config.yaml") { input in
                try Data(input).write(to: file)
                var configuration = RunConfiguration()
                try configuration.apply(contentsOf: file)
                try configuration.validate()
                var again = RunConfiguration()
                do {
                    try Data(configuration.yaml().utf8).write(to: file)
                    try again.apply(contentsOf: file)
                } catch {
                    throw Wrong(description: "what has been written is refused: \(error)")
                }
                guard again == configuration else { throw Wrong(description: "it is another when it has been written") }
            },
        ]
    }

    private static func tiny() throws -> ModelFolder {
        let tokenizer = try Tokenizer(.characters, text: text)
        let model = try FeedbackModel(
            ModelConfiguration(
                layers: 1, dModel: 8, heads: 2, dFF: 8, vocabulary: tokenizer.vocabularySize, positions: 16), seed: 1)
        return ModelFolder(model: model, tokenizer: tokenizer, sequenceLength: 8)
    }

    // MARK: Other programs' files

    private static func foreign(_ folder: URL) throws -> [Subject] {
        let file = folder.appending(path: "foreign.pt")
        let fixtures = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "FeedbackTransformerTests/Fixtures")
        let checkpoints = try ["shared", "unchecked", "original-older", "views", "views-older", "wrapped"].map {
            Array(try Data(contentsOf: fixtures.appending(path: "\($0).pt")))
        }
        // A zip's checksums hide what a damaged pickle does.
        let model = try tiny().model
        let storages = model.parameters.tensors().map { $0.values.withUnsafeBytes { [UInt8]($0) } }
        return [
            try Subject("pytorch", checkpoints) { input in
                try Data(input).write(to: file)
                _ = try FeedbackModel(labml: file)
            },
            try Subject("pickle", [model.stateDictPickle]) { input in
                try writeFile(file) { handle in
                    var zip = ZipWriter(handle)
                    try zip.add("a/data.pkl", input)
                    for (key, bytes) in storages.enumerated() { try zip.add("a/data/\(key)", bytes) }
                    try zip.finish()
                }
                _ = try FeedbackModel(labml: file)
            },
        ]
    }

    // MARK: Checkpoints

    /// Begins a run, and stops it at a checkpoint.
    private static func train(
        in folder: URL, _ corpus: any Corpus, history: RunStore? = nil,
        _ change: (inout RunConfiguration) throws -> Void
    ) throws {
        var configuration = RunConfiguration()
        (configuration.layers, configuration.dModel, configuration.heads, configuration.dFF) = (1, 8, 2, 8)
        (configuration.sequenceLength, configuration.batchSize, configuration.threads) = (8, 2, 1)
        (configuration.length, configuration.evalInterval) = (.steps(20), 3)
        try change(&configuration)
        let run = try RunFolder(creating: folder, configuration: configuration)
        let trainer = try Trainer(configuration, corpus: corpus)
        let recorder = try history.map { try RunRecorder($0, trainer, folder: folder) }
        try trainer.run(in: run, report: { recorder?.record($0) }, shouldStop: { trainer.step == 4 })
        recorder?.end(.interrupted)
    }

    private static func checkpoints(_ folder: URL) throws -> [Subject] {
        func subject(_ name: String, _ path: String, _ corpus: any Corpus, _ run: String) throws -> Subject {
            try Subject(name, file: path, of: folder.appending(path: run)) { url in
                let run = try RunFolder(opening: url)
                let trainer = try Trainer(resuming: run, corpus: corpus)
                try run.begin(trainer)
                run.end()
                _ = try trainer.trainStep()
            }
        }
        let checkpoint = "checkpoints/step-00000004"
        let text = try TextCorpus(name: "text", text: text)
        let copies = TaskCorpus(Copying(reversed: false), training: 1, validation: 3, test: 1)
        try train(in: folder.appending(path: "windows"), text) { _ in }
        try train(in: folder.appending(path: "streams"), text) { $0.streams = true }
        try train(in: folder.appending(path: "lessons"), copies) { $0.lessons = try Lessons("0:1-3,50%:2-9") }
        return [
            try subject("windows.json", "\(checkpoint)/training.json", text, "windows"),
            try subject("streams.json", "\(checkpoint)/training.json", text, "streams"),
            try subject("lessons.json", "\(checkpoint)/training.json", copies, "lessons"),
            try subject("optimizer", "\(checkpoint)/optimizer.safetensors", text, "windows"),
            try subject("memory", "\(checkpoint)/memory.safetensors", text, "streams"),
            try subject("metrics", "metrics.jsonl", text, "windows"),
        ]
    }

    // MARK: Requests

    private static func requests(_ folder: URL) async throws -> [Subject] {
        let history = try RunStore(at: folder.appending(path: "runs.sqlite"))
        try train(in: folder.appending(path: "served"), TextCorpus(name: "text", text: text), history: history) { _ in }
        var options = ModelServer.Options()
        (options.port, options.maxTokens) = (0, 24)
        let server = try ModelServer(models: ["tiny": try tiny()], history: history, options: options)
        let (addresses, found) = AsyncStream<String>.makeStream()
        Task { try await server.run { found.yield($0) } }
        guard let port = await addresses.first(where: { _ in true })?.split(separator: ":").last.flatMap({ UInt16($0) })
        else { throw Wrong(description: "the server does not listen") }

        func body(_ name: String, _ path: String) throws -> Subject {
            try Subject(name) { input in
                let head =
                    "POST \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
                    + "Content-Length: \(input.count)\r\n\r\n"
                try exchange(Array(head.utf8) + input, port: port, isWhole: true)
            }
        }
        return [
            try body("completion", "/v1/completions"), try body("attention", "/api/runs/1/attention"),
            try Subject("request") { try exchange($0, port: port, isWhole: false) },
        ]
    }
}
