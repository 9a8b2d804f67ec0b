import Foundation
import Testing

@testable import FeedbackTransformer

/// labml's own folders, and its vocabulary.
@Suite struct LabmlFolderTests {
    private let place: TemporaryFolder
    private let model = Wiring(keyValue: .perLayer, dModel: 8).model()
    private var files: [String: String] = [:]

    init() throws {
        place = try TemporaryFolder()
        for (number, parameter) in model.parameters.table.parameters.enumerated() {
            let name = "model_\(parameter.name).npy"
            files[parameter.name] = name
            // By turns row-major and column-major, in the format's versions.
            let isTransposed = number % 2 == 1 && parameter.shape.count == 2
            try write(
                name, parameter.shape, model.parameters[parameter.name], isTransposed: isTransposed,
                version: UInt8(1 + number % 3))
        }
        try info(["model": files])
    }

    private func info(_ object: Any) throws {
        try JSONSerialization.data(withJSONObject: object).write(to: place.file("info.json"))
    }

    private func write(
        _ name: String, _ shape: [Int], _ values: [Float], isTransposed: Bool = false, version: UInt8 = 1,
        lengths: String? = nil
    ) throws {
        var values = values
        if isTransposed {
            let (rows, columns) = (shape[0], shape[1])
            values = (0..<values.count).map { values[$0 % rows * columns + $0 / rows] }
        }
        let lengths = lengths ?? shape.map(String.init).joined(separator: ", ") + (shape.count == 1 ? "," : "")
        let header =
            "{'descr': '<f4', 'fortran_order': \(isTransposed ? "True" : "False"), 'shape': (\(lengths)), }     \n"
        let length = little((header.utf8.count, version == 1 ? 2 : 4))
        var bytes: [UInt8] = [0x93] + Array("NUMPY".utf8)
        bytes += [version, 0] + length
        bytes += Array(header.utf8) + values.flatMap { little((Int($0.bitPattern), 4)) }
        try Data(bytes).write(to: place.file(name))
    }

    private func refusal() -> String {
        let error = #expect(throws: FileError.self) { try FeedbackModel(labml: place.url) }
        let message = error?.description ?? ""
        #expect(!message.contains("\n") && message.contains(place.url.path))
        return message
    }

    @Test func arraysAreRead() throws {
        #expect(try FeedbackModel(labml: place.url).parameters == model.parameters)
    }

    @Test func aFileOfPyTorchsIsRead() throws {
        try model.export(as: .labml, to: place.file("model.pth"))
        try info(["model": "model.pth"])
        #expect(try FeedbackModel(labml: place.url).parameters == model.parameters)
    }

    @Test func damagedFoldersAreRefused() throws {
        let infos: [(Any, String)] = [
            ([1], "names no model"), (["model": 3], "names no files"), (["model": ["a": 3]], "a file of its own for a"),
            (["model": "../x"], "outside the folder"), (["model": "/etc/passwd"], "outside the folder"),
            (["model": ["a": "a/../../x"]], "outside the folder"), (["model": "x"], "cannot read"),
            (["model": ["a": files["generator.bias"]!, "b": files["generator.bias"]!]], "a file of its own for"),
        ]
        for (object, words) in infos {
            try info(object)
            #expect(refusal().contains(words))
        }
        try Data("{".utf8).write(to: place.file("info.json"))
        #expect(refusal().contains("info.json"))
        try FileManager.default.removeItem(at: place.file("info.json"))
        #expect(refusal().contains("info.json"))
    }

    @Test func damagedArraysAreRefused() throws {
        let name = try #require(files["generator.bias"])
        let good = try Data(contentsOf: place.file(name))
        try write(name, [5], [1, 2, 3, 4])
        #expect(refusal().contains("which do not fill its shape [5]"))
        try write(name, [5], [1, 2, 3, 4, 5], lengths: "99999999999999999999, 5")
        #expect(refusal().contains("impossible shape"))
        try write(name, [2], [1, 2])
        #expect(refusal().contains("generator.bias is [2] and must be [5]"))
        try write(name, [5], [1, 2, 3, 4, .infinity])
        #expect(refusal().contains("not finite"))
        for length in [0, 5, 11, 30, good.count - 1] {
            try good.prefix(length).write(to: place.file(name))
            #expect(refusal().contains(name), "\(length)")
        }
        let start = try #require(good.firstRange(of: Data("'<f4'".utf8)))
        for type in ["'>f4'", "'<U4'", "'|O8'", "'|O'", "'<i4'"] {
            var other = good
            // The header stays as long.
            let end = try #require(good.dropFirst(start.upperBound).firstIndex(of: 0x0a))
            other.insert(contentsOf: Data(repeating: 0x20, count: start.count - type.utf8.count), at: end)
            other.replaceSubrange(start, with: Data(type.utf8))
            try other.write(to: place.file(name))
            #expect(refusal().contains("type"), "\(type)")
        }
    }

    @Test func vocabulariesAreLabmls() throws {
        let sorted = try Tokenizer(labmlText: "b\r\na\rc\né")
        #expect(sorted == (try Tokenizer(characters: "\nabcé")))
        #expect(try Tokenizer(characters: "ba\n").encode("ab\n") == [1, 0, 2])
        #expect(throws: TokenizerError.self) { try Tokenizer(characters: "aba") }
        #expect(throws: TokenizerError.self) { try Tokenizer(characters: "\u{e9}e\u{301}\u{212b}\u{c5}") }
        #expect(Tokenizer.tinyShakespeare.vocabularySize == 65)
        #expect(try Tokenizer(labmlText: Tokenizer.tinyShakespeare.decode(0..<65)) == .tinyShakespeare)
    }
}
