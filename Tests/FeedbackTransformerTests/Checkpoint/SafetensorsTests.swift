import FeedbackTransformer
import Foundation
import Testing

/// A folder for one test, removed with it.
final class TemporaryFolder {
    let url: URL

    init() throws {
        url = FileManager.default.temporaryDirectory.appending(path: "feedback-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(at: url) }

    func file(_ name: String) -> URL { url.appending(path: name) }
}

/// A file of a header and data, with the header's true length unless another is given.
func safetensors(_ header: String, data: Int = 0, length: UInt64? = nil) -> Data {
    var bytes = withUnsafeBytes(of: (length ?? UInt64(header.utf8.count)).littleEndian) { Data($0) }
    bytes.append(Data(header.utf8))
    bytes.append(Data((0..<data).map { UInt8($0 % 251) }))
    return bytes
}

@Suite struct SafetensorsTests {
    @Test func writesAndReadsBack() throws {
        let folder = try TemporaryFolder()
        let values: [Float] = [1, -2.5, .pi, 0, .leastNonzeroMagnitude, 3e38]
        try Safetensors.write(
            [
                .init(name: "b \"quoted\" ü", shape: [2, 3], values: values[...]),
                .init(name: "a", shape: [], values: values[2..<3]),
                .init(name: "empty", shape: [0, 4], values: values[0..<0]),
            ], metadata: ["format": "pt", "note": "x/y"], to: folder.file("x.safetensors"))
        let file = try Safetensors(contentsOf: folder.file("x.safetensors"))
        #expect(try file.floats("b \"quoted\" ü", shape: [2, 3]) == values)
        #expect(try file.floats("a") == [.pi])
        #expect(try file.floats("empty", shape: [0, 4]) == [])
        #expect(file.metadata == ["format": "pt", "note": "x/y"])
        #expect(file.entries.count == 3)
    }

    /// The bytes as other readers expect them: `{` first, by name, contiguous, data aligned to 8.
    @Test func writtenBytes() throws {
        let folder = try TemporaryFolder()
        let values: [Float] = [1, 2]
        try Safetensors.write(
            [
                .init(name: "w", shape: [2], values: values[...]),
                .init(name: "b", shape: [1], values: values[1...]),
            ],
            to: folder.file("x.safetensors"))
        let data = try Data(contentsOf: folder.file("x.safetensors"))
        let header =
            #"{"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#
        let padded = header + String(repeating: " ", count: (8 - header.count % 8) % 8)
        #expect(data.prefix(8) == withUnsafeBytes(of: UInt64(padded.count).littleEndian) { Data($0) })
        #expect(String(decoding: data[8..<8 + padded.count], as: UTF8.self) == padded)
        #expect(data.suffix(12) == Data([0, 0, 0, 64, 0, 0, 128, 63, 0, 0, 0, 64]))
    }

    @Test func readsWhatOthersWrite() throws {
        let header =
            "{ \"__metadata__\" : {\"a\\u0041\":\"\\n\"},\n\"x\":{\"shape\":[2, 1],\"dtype\":\"I32\",\"data_offsets\":[4,12]},\t\"y\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}   "
        let file = try Safetensors(data: safetensors(header, data: 12))
        #expect(file.metadata == ["aA": "\n"])
        #expect(try file.integers("x") == [0x0706_0504, 0x0b0a_0908])
        #expect(throws: SafetensorsError.missing("z")) { try file.floats("z") }
        #expect(throws: SafetensorsError.mismatch(name: "x", found: "I32 [2, 1]", needed: "F32 [2]")) {
            try file.floats("x", shape: [2])
        }
    }

    /// Tensors without values, in any order: they begin where others do.
    @Test func emptyTensorsAreRead() throws {
        let file = try Safetensors(
            data: Self.file(
                Self.tensor(), Self.tensor("z", shape: "[0]", offsets: "[0,0]"),
                Self.tensor("b", shape: "[2,0]", offsets: "[4,4]")))
        #expect(try file.floats("a").count == 1 && file.floats("z").isEmpty && file.floats("b", shape: [2, 0]).isEmpty)
    }

    /// Each breaks one rule of the format.
    static let malformed: [(String, Data)] = [
        ("empty", Data()), ("seven bytes", Data(repeating: 0, count: 7)),
        ("no header", safetensors("")), ("header beyond the file", safetensors("{}", length: 3)),
        ("huge header", safetensors("{}", length: 100_000_001)), ("endless header", safetensors("{}", length: .max)),
        ("space first", safetensors(" {}")), ("list", safetensors("[]")), ("cut off", safetensors("{\"a\":")),
        ("something after", safetensors("{}x")), ("zero bytes after", safetensors("{}\u{0}")),
        ("trailing data", safetensors("{}", data: 1)), ("trailing comma", safetensors("{\"__metadata__\":{},}")),
        ("control character", safetensors("{\"a\u{1}\":{}}")), ("bad escape", safetensors("{\"a\\x\":{}}")),
        ("ends in an escape", safetensors("{\"a\\")), ("ends in a string", safetensors("{\"a")),
        ("metadata twice", safetensors("{\"__metadata__\":{},\"__metadata__\":{}}")),
        ("metadata key twice", safetensors("{\"__metadata__\":{\"a\":\"1\",\"a\":\"1\"}}")),
        ("metadata number", safetensors("{\"__metadata__\":{\"a\":1}}")),
        ("name twice", file(tensor(), tensor(offsets: "[4,8]"), data: 8)),
        ("unknown field", file(tensor(more: #","x":1"#))), ("field twice", file(tensor(more: #","dtype":"F32""#))),
        ("no dtype", file(tensor(dtype: nil))), ("no shape", file(tensor(shape: nil))),
        ("no offsets", file(tensor(offsets: nil))), ("unknown type", file(tensor(dtype: "F33"))),
        ("three offsets", file(tensor(offsets: "[0,4,4]"))), ("backward", file(tensor(offsets: "[4,0]"))),
        ("negative", file(tensor(offsets: "[-4,0]"))), ("fraction", file(tensor(shape: "[1.0]"))),
        ("exponent", file(tensor(shape: "[1e0]"))), ("leading zero", file(tensor(shape: "[01]"))),
        ("beyond an integer", file(tensor(shape: "[99999999999999999999]"))),
        ("too small", file(tensor(shape: "[2]"))), ("too large", file(tensor(offsets: "[0,8]"), data: 8)),
        ("overflowing shape", file(tensor(shape: "[4294967296,4294967296]"))),
        ("overflowing to zero", file(tensor(shape: "[9223372036854775807,2,0]", offsets: "[0,0]"), data: 0)),
        ("beyond the data", file(tensor(), data: 3)), ("hole before", file(tensor(offsets: "[4,8]"), data: 8)),
        ("overlap", file(tensor(shape: "[2]", offsets: "[0,8]"), tensor("b", offsets: "[4,8]"), data: 8)),
        ("hole between", file(tensor(), tensor("b", offsets: "[8,12]"), data: 12)),
        ("not UTF-8", Data([5, 0, 0, 0, 0, 0, 0, 0]) + Data([0x7b, 0x22, 0xff, 0x22, 0x7d])),
    ]

    /// A tensor as a header has it; without the fields that are nil.
    private static func tensor(
        _ name: String = "a", dtype: String? = "F32", shape: String? = "[1]", offsets: String? = "[0,4]",
        more: String = ""
    ) -> String {
        let fields = [
            dtype.map { #""dtype":"\#($0)""# }, shape.map { #""shape":\#($0)"# },
            offsets.map { #""data_offsets":\#($0)"# },
        ]
        return #""\#(name)":{\#(fields.compactMap(\.self).joined(separator: ","))\#(more)}"#
    }
    private static func file(_ tensors: String..., data: Int = 4) -> Data {
        safetensors("{\(tensors.joined(separator: ","))}", data: data)
    }

    @Test(arguments: malformed.indices) func malformedFilesAreRefused(index: Int) {
        let (what, data) = Self.malformed[index]
        #expect("\(what)") {
            try Safetensors(data: data)
        } throws: { error in
            if case SafetensorsError.malformed = error { true } else { false }
        }
    }

    @Test(arguments: [
        (#"{"a" 1}"#, "its header lacks a : at byte 5"), ("{a:1}", "its header lacks a \" at byte 1"),
        (#"{"a":1}"#, "its header lacks a { at byte 5"), ("{}x", "something follows the header's object, at byte 2"),
        (#"{"a":{"shape":[01]}}"#, "its header has no usable whole number at byte 15"),
        (#"{"a":{"shape":[-1]}}"#, "its header has no usable whole number at byte 15"),
        (#"{"a":{"shape":[1.5]}}"#, "its header lacks a ] at byte 16"),
        ("{\"a\u{1}", "its header has a control character at byte 3"), ("{\"a", "its header ends within a string"),
        (#"{"a\x":1}"#, "its header has an unusable escape in the string at byte 2"),
    ]) func saysWhereAHeaderIsWrong(header: String, message: String) {
        #expect(throws: SafetensorsError.malformed(message)) { try Safetensors(data: safetensors(header)) }
    }

    /// A header as long as allowed that says nothing costs no more than its length.
    @Test func deepNestingIsRefusedAtOnce() {
        let header = "{\"a\":" + String(repeating: "{\"a\":", count: 100_000)
        #expect(throws: SafetensorsError.self) { try Safetensors(data: safetensors(header)) }
    }

    /// 10,000 files with random damage: each is refused with a typed error, or is still well-formed and then has exactly
    /// the values that its bytes say.
    @Test func mutatedFilesAreReadOrRefused() throws {
        let folder = try TemporaryFolder()
        let values = (0..<24).map { Float($0) / 7 }
        try Safetensors.write(
            ["one", "two", "three"].map {
                .init(name: $0, shape: [4, 2], values: values[0..<8])
            },
            metadata: ["format": "pt"], to: folder.file("x.safetensors"))
        let original = try Data(contentsOf: folder.file("x.safetensors"))
        let headerEnd = 8 + Int(original[0]) + Int(original[1]) << 8
        var random = RandomSource(seed: 6)
        var refused = 0
        var read = 0
        for _ in 0..<10_000 {
            var data = original
            for _ in 0...random.below(3) {
                let at = random.below(random.below(4) > 0 ? min(headerEnd, data.count) : data.count)
                switch random.below(6) {
                case 0: data[at] = UInt8(random.below(256))
                case 1: data[at] ^= 1 << UInt8(random.below(8))
                case 2: data.remove(at: at)
                case 3: data.insert(UInt8(random.below(256)), at: at)
                case 4: data = data.prefix(at)
                default:
                    let length = min(random.below(24), data.count - at)
                    data.insert(contentsOf: data[at..<at + length], at: random.below(data.count))
                }
                data = Data(data)
                if data.isEmpty { break }
            }
            do throws(SafetensorsError) {
                let file = try Safetensors(data: data)
                read += 1
                let start = 8 + data.prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
                for (name, entry) in file.entries where entry.dtype == .f32 {
                    let floats = try file.floats(name, shape: entry.shape)
                    let bytes = floats.withUnsafeBytes { Data($0) }
                    #expect(bytes == data[start + entry.range.lowerBound..<start + entry.range.upperBound])
                }
            } catch {
                #expect(!error.description.isEmpty)
                refused += 1
            }
        }
        #expect(refused > 5000 && read > 100, "\(refused) refused, \(read) read")
    }

    @Test func whatIsNoFileIsRefused() throws {
        let folder = try TemporaryFolder()
        #expect(throws: FileError.self) { try Safetensors(contentsOf: folder.file("missing")) }
        #expect(throws: FileError.self) { try Safetensors(contentsOf: folder.url) }
        #expect(throws: FileError.self) { try Safetensors(contentsOf: URL(filePath: "/dev/zero")) }
    }
}
