import FeedbackTransformer
import Foundation
import Testing

@Suite struct ModelFolderTests {
    private let temporary: TemporaryFolder
    private let original: ModelFolder
    private var folder: URL { temporary.file("model") }

    init() throws {
        temporary = try TemporaryFolder()
        let tokenizer = try Tokenizer(.characters, text: "hello\n")
        let wiring = Wiring(window: 9, dModel: 8, vocabulary: tokenizer.vocabularySize)
        original = ModelFolder(model: wiring.model(), tokenizer: tokenizer, sequenceLength: 7)
        try original.save(to: folder)
    }

    @Test func savesAndLoadsTheSame() throws {
        let loaded = try ModelFolder(contentsOf: folder)
        #expect(loaded.model.configuration == original.model.configuration)
        #expect(loaded.tokenizer == original.tokenizer)
        #expect(loaded.sequenceLength == 7)
        #expect(loaded.model.parameters.values == original.model.parameters.values)
    }

    /// A folder without the key is of a model whose memories are not normalised; one with it keeps it.
    @Test func normalisedMemoryIsKept() throws {
        #expect(try ModelFolder(contentsOf: folder).model.configuration.memoryNorm == .none)
        try configure("memoryNorm", nil)
        #expect(try ModelFolder(contentsOf: folder).model.configuration.memoryNorm == .none)
        let wiring = Wiring(norm: .layer, dModel: 8, vocabulary: original.tokenizer.vocabularySize)
        try ModelFolder(model: wiring.model(), tokenizer: original.tokenizer).save(to: folder)
        let loaded = try ModelFolder(contentsOf: folder)
        #expect(loaded.model.configuration.memoryNorm == .layer)
        #expect(loaded.model.parameters["transformer.norm_memory.weight"].allSatisfy { $0 != 1 })
    }

    @Test func savingAgainReplacesTheWhole() throws {
        try Data("stale".utf8).write(to: folder.appending(path: "stale"))
        try original.save(to: folder)
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
        #expect(names == ["config.json", "model.safetensors", "tokenizer.json"])
        #expect(try FileManager.default.contentsOfDirectory(atPath: temporary.url.path) == ["model"])
    }

    /// What fails when the folder is there already does not keep the next one from its place.
    @Test func savingAgainAfterAFailure() throws {
        #expect(throws: FileError.self) {
            try writeFolder(folder, { _ in }, whenThere: { throw FileError("too late") })
        }
        try original.save(to: folder)
        #expect(try FileManager.default.contentsOfDirectory(atPath: temporary.url.path) == ["model"])
        #expect(try ModelFolder(contentsOf: folder).tokenizer == original.tokenizer)
    }

    @Test(arguments: ["config.json", "model.safetensors", "tokenizer.json"])
    func missingEmptyAndTruncatedFilesAreRefused(name: String) throws {
        let file = folder.appending(path: name)
        let data = try Data(contentsOf: file)
        for damaged in [Data(), data.prefix(data.count / 2), data.dropLast()] {
            try Data(damaged).write(to: file)
            #expect(throws: (any Error).self) { try ModelFolder(contentsOf: folder) }
        }
        try FileManager.default.removeItem(at: file)
        #expect(throws: FileError.self) { try ModelFolder(contentsOf: folder) }
        try data.write(to: file)
        _ = try ModelFolder(contentsOf: folder)
    }

    /// Changes one thing in config.json.
    private func configure(_ key: String, _ value: Any?) throws {
        let file = folder.appending(path: "config.json")
        var object = try #require(try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
        object[key] = value
        try JSONSerialization.data(withJSONObject: object).write(to: file)
    }

    @Test func configurationsThatFitNoModelAreRefused() throws {
        let wrong: [(String, Any?)] = [
            ("d_model", 9), ("d_model", 0), ("d_model", -8), ("d_model", 1 << 40), ("heads", 3), ("layers", 1 << 40),
            ("vocab", 99), ("positions", 0), ("memory_window", 99), ("memory", "none"), ("format", "other"),
            ("version", 2), ("layers", nil), ("d_ff", "wide"), ("sequence_length", 0), ("key_value", "per-layer"),
            ("memoryNorm", "layer"), ("memoryNorm", "some"),
        ]
        let file = folder.appending(path: "config.json")
        let data = try Data(contentsOf: file)
        for (key, value) in wrong {
            try configure(key, value)
            #expect(throws: (any Error).self, "\(key) \(String(describing: value))") {
                try ModelFolder(contentsOf: folder)
            }
            try data.write(to: file)
        }
    }

    @Test func parametersThatAreNotFiniteAreRefused() throws {
        var damaged = original
        damaged.model.parameters["generator.bias"][2] = .nan
        try damaged.save(to: folder)
        #expect(throws: FileError.self) { try ModelFolder(contentsOf: folder) }
    }

    @Test func anUnwritableFolderIsLoudAndLeavesNothing() throws {
        let blocked = temporary.file("file")
        try Data().write(to: blocked)
        #expect(throws: FileError.self) { try original.save(to: blocked.appending(path: "model")) }
        #expect(try FileManager.default.contentsOfDirectory(atPath: temporary.url.path).sorted() == ["file", "model"])
        _ = try ModelFolder(contentsOf: folder)
    }

    /// /dev/full takes no byte: as a full disk.
    @Test func aFullDiskIsLoud() throws {
        #expect(throws: FileError.self) { try Safetensors.write([], to: URL(filePath: "/dev/full")) }
    }
}
