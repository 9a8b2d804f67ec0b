import Foundation
import Testing

@testable import FeedbackTransformer

/// Zips that torch.save does not write, and files that were damaged.
@Suite struct ZipArchiveTests {
    private let place: TemporaryFolder
    private var file: URL { place.file("file.pt") }
    private static let fixtures = Bundle.module.resourceURL!.appending(path: "Fixtures")

    init() throws { place = try TemporaryFolder() }

    private func refusal() throws -> String { try place.refusal() }

    private func zip(_ entries: [(String, [UInt8])]) throws -> [UInt8] {
        try writeFile(file) { handle in
            var zip = ZipWriter(handle)
            for (name, bytes) in entries { try zip.add(name, bytes) }
            try zip.finish()
        }
        return Array(try Data(contentsOf: file))
    }

    private static let empty: [UInt8] = [0x80, 2] + Array("}.".utf8)

    @Test(arguments: [
        "/etc/passwd", "../data/0", "a/../../b", "a//b", "a/./b", "a/", "", "a\\b", "a\u{0}b", "..", ".", "a\nb",
    ]) func pathsAreRefused(name: String) throws {
        _ = try zip([("a/data.pkl", Self.empty), (name, [1])])
        #expect(try refusal().contains("an entry with an impossible name"))
    }

    @Test func contentsThatAreNotPyTorchsAreRefused() throws {
        let big = Array("big".utf8)
        let archives: [([(String, [UInt8])], String)] = [
            ([], "it must have one data.pkl"), ([("data.pkl", Self.empty)], "it must have one data.pkl"),
            ([("a/data.pkl", Self.empty), ("b/data.pkl", Self.empty)], "it must have one data.pkl"),
            ([("a/data.pkl", Self.empty), ("a/data.pkl", Self.empty)], "two entries a/data.pkl"),
            ([("a/data.pkl", Self.empty), ("a/byteorder", big)], "big-endian"),
            ([("a/data.pkl", Self.empty + [0])], "something follows its pickle"),
            ([("a/data.pkl", Self.empty)], "no dictionary with a tensor src_embed.weight"),
        ]
        for (entries, words) in archives {
            _ = try zip(entries)
            let message = try refusal()
            #expect(message.contains(words), "\(words): \(message)")
        }
    }

    /// One field changed, at a place from the directory's entry of the only file, or from the end.
    @Test func damagedHeadersAreRefused() throws {
        let good = try zip([("a/data.pkl", Self.empty)])
        #expect(try refusal().contains("no dictionary"))
        let directory = try #require(Data(good).firstRange(of: Data([0x50, 0x4b, 1, 2]))?.lowerBound)
        let extra = directory + 46 + 10 + 4
        let end = good.count
        let changes: [(Int, [UInt8], String)] = [
            (directory + 8, [1], "compressed or encrypted"), (directory + 10, [8], "compressed or encrypted"),
            (directory + 10, [99], "compressed or encrypted"), (extra, [255, 255], "compressed"),
            (extra + 8, [255, 255, 255], "compressed"), (directory + 16, [7], "damaged entry"),
            (extra + 16, [1], "damaged entry"),
            (extra + 16, [255, 255, 255, 255, 255, 255, 255, 255], "damaged entry"),
            (directory + 38, [0x10], "a folder a/data.pkl"),
            (end - 18, [1], "two ends"), (end - 16, [1], "two ends"), (end - 14, [2], "two ends"),
            (end - 12, [2], "two ends"), (end - 10, [0], "two ends"), (end - 6, [0], "two ends"),
            (directory, [0], "directory is damaged"), (directory + 28, [200], "directory is damaged"),
            (directory + 32, [1], "directory is damaged"), (directory + 48, [0xff], "impossible name"),
            (directory + 46, [0x62], "damaged entry"), (0, [0x51], "it is no file"), (8, [8], "damaged entry"),
            (26, [9], "damaged entry"), (28, [255, 255], "damaged entry"), (64, [0], "damaged entry"),
            (end - 22, [0], "cut off"), (end - 2, [1], "cut off"), (end - 42, [0], "not where it should be"),
            (end - 34, [0], "damaged Zip64"), (end - 98, [0], "damaged Zip64"), (end - 94, [45], "damaged Zip64"),
            (end - 82, [1], "two ends"), (end - 74, [2], "several parts"),
            (end - 66, [0, 1], "several parts"), (end - 50, [0], "not where it should be"),
            (end - 58, [0], "not where it should be"),
        ]
        for (place, bytes, words) in changes {
            var damaged = good
            damaged.replaceSubrange(place..<place + bytes.count, with: bytes)
            try Data(damaged).write(to: file)
            let message = try refusal()
            #expect(message.contains(words), "byte \(place) of \(good.count): \(message)")
        }
        try Data(good + [0]).write(to: file)
        #expect(try refusal().contains("cut off, or something follows"))
        for length in 0..<good.count {
            try Data(good[..<length]).write(to: file)
            _ = try refusal()
        }
    }

    @Test func entriesThatOverlapAreRefused() throws {
        // The second entry lies in the first one's bytes.
        var inner = try zip([("a/data/0", [1, 2, 3])])
        inner = Array(inner[..<(try #require(Data(inner).firstRange(of: Data([0x50, 0x4b, 1, 2]))).lowerBound)])
        var bytes = try zip([("a/data/1", inner), ("a/data/0", [1, 2, 3])])
        let last = try #require(Data(bytes).range(of: Data([0x50, 0x4b, 1, 2]), options: .backwards)?.lowerBound)
        let offset = last + 46 + 8 + 20
        bytes.replaceSubrange(offset..<offset + 8, with: little((64, 8)))
        try Data(bytes).write(to: file)
        #expect(try refusal().contains("overlap"))
    }

    // MARK: Any damage

    /// Whatever is wrong is told in one line; what nobody can see is read.
    @Test(arguments: ["shared", "unchecked", "shared-older", "views-older", "wrapped"])
    func damagedFilesAreReadOrRefused(name: String) throws {
        let good = Array(try Data(contentsOf: Self.fixtures.appending(path: "\(name).pt")))
        var random = RandomSource(seed: 5)
        var read = 0
        for number in 0..<1000 {
            var damaged = good
            for _ in 0...random.below(3) {
                let place = random.below(damaged.count)
                switch random.below(6) {
                case 0: damaged[place] ^= 1 << UInt8(random.below(8))
                case 1: damaged[place] = UInt8(random.below(256))
                case 2: damaged.removeSubrange(place..<min(damaged.count, place + 1 + random.below(64)))
                case 3:
                    damaged.insert(contentsOf: good[random.below(good.count)...].prefix(random.below(64)), at: place)
                case 4: damaged.removeLast(damaged.count - place)
                default:
                    let extremes = [0, 1, 0x7fff_ffff, 0xffff_ffff, .max, -1, place]
                    let bytes = little((extremes[random.below(extremes.count)], [1, 2, 4, 8][random.below(4)]))
                    damaged.replaceSubrange(place..<min(damaged.count, place + bytes.count), with: bytes)
                }
                if damaged.isEmpty { damaged = [0] }
            }
            try Data(damaged).write(to: file)
            do {
                _ = try FeedbackModel(labml: file)
                read += 1
            } catch let error as FileError {
                #expect(error.description.count < 1100 && !error.description.contains("\n"), "seed 5, number \(number)")
            }
        }
        #expect(read < 700)
        #expect(try FileManager.default.contentsOfDirectory(atPath: place.url.path) == ["file.pt"])
    }
}
