import Foundation
import Testing

@testable import FeedbackTransformer

/// Pickles that ask for more than tensors: refused with one line, in either form of file, and nothing happens.
@Suite struct HostilePickleTests {
    private let place: TemporaryFolder
    private var file: URL { place.file("file.pt") }

    init() throws { place = try TemporaryFolder() }

    /// The pickle in both forms of file, each with one storage "0" of four numbers.
    private func write(_ pickle: [UInt8], older: Bool) throws {
        let numbers = [UInt8](repeating: 0, count: 16)
        if older {
            let magic: [UInt8] = [
                0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e,
            ]
            let version: [UInt8] = [0x80, 2, 0x4d, 0xe9, 3, 0x2e]
            let machine = bytes([0x80, 2], ascii("}"), text("little_endian"), [0x88], ascii("s."))
            let keys = bytes([0x80, 2], ascii("]"), text("0"), ascii("a."))
            try Data(bytes(magic, version, machine, pickle, keys, little((4, 8)), numbers)).write(to: file)
        } else {
            try writeFile(file) { handle in
                var zip = ZipWriter(handle)
                try zip.add("file/data.pkl", pickle)
                try zip.add("file/data/0", numbers)
                try zip.finish()
            }
        }
    }

    private func bytes(_ parts: [UInt8]...) -> [UInt8] { Array(parts.joined()) }
    private func ascii(_ text: String) -> [UInt8] { Array(text.utf8) }
    private func text(_ text: String) -> [UInt8] { bytes(ascii("X"), little((text.utf8.count, 4)), ascii(text)) }
    private func name(_ module: String, _ name: String) -> [UInt8] { ascii("c\(module)\n\(name)\n") }

    /// A state dict whose one tensor is made of these.
    private func tensor(
        type: String = "FloatStorage", key: String = "0", count: [UInt8]? = nil, offset: [UInt8]? = nil,
        shape: [UInt8]? = nil, strides: [UInt8]? = nil
    ) -> [UInt8] {
        let reference = bytes(
            ascii("("), text("storage"), name("torch", type), text(key), text("cpu"), count ?? integer(4), ascii("tQ"))
        let arguments = bytes(offset ?? integer(0), shape ?? tuple(2, 2), strides ?? tuple(2, 1), [0x89], ascii("}t"))
        return bytes(
            [0x80, 2], ascii("}"), text("src_embed.weight"), name("torch._utils", "_rebuild_tensor_v2"), ascii("("),
            reference, arguments, ascii("Rs."))
    }
    private func integer(_ number: Int) -> [UInt8] { bytes([0x8a, 8], little((number, 8))) }
    private func tuple(_ numbers: Int...) -> [UInt8] { bytes(ascii("("), numbers.flatMap(integer), ascii("t")) }

    private func refusal(_ pickle: [UInt8], older: Bool) throws -> String {
        try write(pickle, older: older)
        return try place.refusal()
    }

    // MARK: Names

    private static let names = [
        "os system", "posix system", "nt system", "os popen", "os remove", "os execv", "subprocess Popen",
        "subprocess check_output", "builtins eval", "builtins exec", "builtins open", "builtins getattr",
        "builtins __import__", "builtins compile", "__builtin__ eval", "__builtin__ file", "runpy _run_code",
        "importlib import_module", "shutil rmtree", "pathlib Path", "socket create_connection", "webbrowser open",
        "ctypes CDLL", "pickle loads", "_pickle loads", "torch load", "torch.hub load", "torch.jit load",
        "torch.storage _load_from_bytes", "torch._utils _rebuild_tensor_v3", "torch.utils._config_module load_config",
        "torch.nn.modules.linear Linear", "__main__ Model", "labml_nn.transformers.feedback FeedbackTransformer",
        "numpy load", "numpy.core.multiarray _reconstruct", "copyreg _reconstructor", "operator attrgetter",
        "functools partial", "types CodeType", "argparse Namespace", "torch FloatTensor", "torch  FloatStorage",
        "torch floatStorage", "torch.FloatStorage ", "collections OrderedDict.__init__", "collections defaultdict",
        "a b c", " ", "\u{202e} \u{1b}[31m",
    ]

    @Test(arguments: names) func namesAreRefused(name: String) throws {
        let target = place.file("touched").path
        let parts = name.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let asked = self.name(parts[0], parts[1])
        let arguments = bytes(ascii("("), text("touch \(target)"), ascii("t"))
        let call = bytes(asked, arguments, ascii("R"))
        let programs: [[UInt8]] = [
            call, asked, bytes(asked, ascii(")R")), bytes(asked, arguments, [0x81]), bytes(asked, ascii("}b")),
            bytes(ascii("}"), text("model"), call, ascii("s")), bytes(ascii("("), call, ascii("t")),
            bytes(ascii("]("), call, ascii("e")),
            bytes(self.name("collections", "OrderedDict"), ascii(")R"), call, ascii("b")),
            bytes(ascii("}("), text("src_embed.weight"), call, text("b"), call, ascii("u")),
        ]
        for program in programs {
            for older in [false, true] {
                let message = try refusal(bytes([0x80, 2], program, ascii(".")), older: older)
                #expect(message.contains("it asks for ") && message.contains("tensors have no need of"), "\(message)")
            }
        }
    }

    // MARK: Instructions

    @Test(arguments: [false, true]) func whateverElseIsRefused(older: Bool) throws {
        let known = Set("\u{80}.N\u{88}\u{89}JKM\u{8a}GXU()\u{85}\u{86}\u{87}t]}aesuqrhjcQRb".unicodeScalars)
        for code in UInt8.min ... .max where !known.contains(Unicode.Scalar(code)) {
            let message = try refusal(bytes([0x80, 2], ascii("]"), [code], ascii("os\nsystem\n.")), older: older)
            #expect(message.contains("the instruction \(code) "), "\(message)")
        }
        for version: UInt8 in [0, 1, 4, 5, 255] {
            #expect(try refusal(bytes([0x80, version], ascii("}.")), older: older).contains("the protocol \(version)"))
        }
        let programs: [String] = [
            "", ".", "(.", "N", "NN.", "(N.", "t.", "a.", "Na.", "]a.", "]NNu.", "}(Nu.", "}Ns.", "NNs.", "](u.", "}e.",
            "R.", "NR.", "NNR.", ")R.", "Q.", "NQ.", "]Q.", "b.", "Nb.", "]Nb.", "h\0.", "q\0.", "(q\0.", "(NtR.",
            "N(a.",
            "](Na.", "e.", "u.", "s.", "cos", "cos\nsystem", "X", "X\u{10}\0\0\0a.", "U\u{4}a.", "J\0.", "G\0.",
            "j\0\0.",
            "\u{1}", "ccollections\nOrderedDict\nN\u{1}R.",
        ]
        for program in programs { _ = try refusal(bytes([0x80, 2], ascii(program)), older: older) }
        for program: [UInt8] in [
            [0x8a, 255, 1], [0x8a, 200], [0x58, 1, 0, 0, 0, 0xff, 0x2e], [0x85, 0x2e], [0x4e, 0x86],
        ] {
            _ = try refusal([0x80, 2] + program, older: older)
        }
        #expect(
            try refusal(self.name(String(repeating: "a", count: 100_000), "b"), older: older).contains("damaged"))
    }

    /// Deep, wide, and with a memory of everything: bounded, whatever is asked.
    @Test func bombsAreRefused() throws {
        func many(_ text: String, _ count: Int = 1 << 20 + 1) -> [UInt8] {
            var bytes = ascii(text)
            while bytes.count < count * text.utf8.count { bytes += bytes }
            return bytes
        }
        let laugh = "(" + String(repeating: "h\0", count: 9) + "tq\0"
        let chain = (1...70_000).flatMap { bytes(ascii("]r"), little(($0, 4)), ascii("aj"), little(($0, 4))) }
        let memories = (0...1 << 20).flatMap { bytes(ascii("r"), little(($0, 4))) }
        let programs: [([UInt8], String)] = [
            (many("("), "nested too deep"), (many("]"), "too much memory"), (many("]("), "too much memory"),
            (bytes(many("("), many("t")), "nested too deep"), (bytes(ascii("]"), many("]a")), "too many objects"),
            (bytes(ascii("N"), memories), "too much memory"),
            (bytes(ascii("]q\0"), many(laugh, 64), ascii(".")), "is damaged"),
            // A list in itself, and each in the one before.
            (bytes(ascii("]q\0"), many("h\0a", 100_000), ascii(".")), "no dictionary"),
            (bytes(ascii("]"), chain), "too much memory"),
            (bytes(ascii("]r"), [255, 255, 255, 255], ascii(".")), "no dictionary"),
            (bytes(ascii("X"), [255, 255, 255, 255]), "cut off"),
            (bytes(ascii("}q\0("), text("model"), ascii("h\0u.")), "no dictionary"),
            ([UInt8](repeating: 0x29, count: Pickle.limit), "too long"),
            // Tuples in tuples: in the end nothing is to be freed that is deep.
            (bytes(ascii("N"), [UInt8](repeating: 0x85, count: 200_000), ascii(".")), "no dictionary"),
        ]
        for (program, words) in programs {
            let message = try refusal([0x80, 2] + program, older: false)
            #expect(message.contains(words), "\(words): \(message)")
        }
    }

    // MARK: Tensors

    @Test(arguments: [false, true]) func tensorsThatCannotBeAreRefused(older: Bool) throws {
        let cases: [([UInt8], String?)] = [
            (tensor(), "it has no layers"), (tensor(key: "1"), nil), (tensor(count: integer(5)), nil),
            (tensor(key: "../0"), nil), (tensor(count: integer(-1)), nil), (tensor(count: integer(.max)), nil),
            (tensor(count: bytes([0x8a, 9], little((1, 8)), [1])), "damaged storage"),
            (tensor(offset: integer(1)), "reaches beyond"), (tensor(offset: integer(.max)), "reaches beyond"),
            (tensor(offset: integer(-1)), "impossible strides"), (tensor(shape: tuple(-2, 2)), "impossible shape"),
            (tensor(shape: tuple(.max, .max)), "impossible shape"), (tensor(shape: tuple(.max, 1)), "reaches beyond"),
            (tensor(shape: tuple(.max, 1), strides: tuple(0, 1)), "repeats its numbers"),
            (tensor(shape: tuple(1 << 40, 2), strides: tuple(0, 1)), "repeats its numbers"),
            (tensor(strides: tuple(-1, 1)), "impossible strides"), (tensor(strides: tuple(.max, .max)), "reaches"),
            (tensor(strides: tuple(1, 1)), "repeats its numbers"), (tensor(strides: tuple(1)), "impossible strides"),
            (tensor(shape: tuple(1, 1, 1, 1, 1, 1, 1, 1, 1)), "damaged"), (tensor(shape: text("a")), "damaged"),
            (tensor(shape: ascii("]")), "damaged"), (tensor(type: "DoubleStorage"), nil),
        ]
        for (pickle, words) in cases {
            let message = try refusal(pickle, older: older)
            if let words { #expect(message.contains(words), "\(words): \(message)") }
        }
    }
}
