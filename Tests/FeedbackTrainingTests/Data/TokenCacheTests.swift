import FeedbackTransformer
import Foundation
import Synchronization
import Testing

@testable import FeedbackTraining

/// A text that is kept as tokens in the cache is the same as one in memory.
@Suite final class TokenCacheTests {
    private let folder = FileManager.default.temporaryDirectory.appending(path: "tokens-\(UUID().uuidString)")
    private let text = String(repeating: "Größe <br /> of \"it\", 1.5 €;\r\nHe said: no!\n\n", count: 40)

    init() throws {
        try FileManager.default.createDirectory(
            at: folder.appending(path: "text/b"), withIntermediateDirectories: true)
        let scalars = Array(text.unicodeScalars)
        func write(_ name: String, _ part: ArraySlice<Unicode.Scalar>, mark: String = "") throws {
            var text = String.UnicodeScalarView()
            text.append(contentsOf: part)
            try Data((mark + String(text)).utf8).write(to: folder.appending(path: "text/\(name)"))
        }
        let first = 23 * 42
        try write("a.txt", scalars[..<first], mark: "\u{feff}")
        try write("b/c.txt", scalars[first...])
        try write(".hidden", ["x"])
    }
    deinit { try? FileManager.default.removeItem(at: folder) }

    private func cached(
        pieces: Int = 61, path: String = "text", _ progress: @escaping @Sendable (CorpusProgress) -> Void = { _ in }
    ) throws -> TextCorpus {
        let path = folder.appending(path: path).path
        return try TextCorpus(
            path: path, mostInMemory: 10, files: TextFiles(path, pieceSize: pieces),
            cache: folder.appending(path: "cache"), progress: progress)
    }

    @Test(arguments: Tokenizer.Kind.allCases, [7, 61, 1 << 20]) func sameAsInMemory(
        kind: Tokenizer.Kind, pieces: Int
    ) throws {
        // A line is longer than a piece of seven bytes, so a word may be, which only characters and bytes don't mind.
        if pieces == 7, kind != .characters, kind != .bytes { return }
        let (memory, cached) = (try TextCorpus(name: "text", text: text), try cached(pieces: pieces))
        let tokenizer = try memory.tokenizer(kind)
        #expect(try cached.tokenizer(kind) == tokenizer)
        for part in [CorpusPart.training, .validation, .all] {
            let (expected, found) = (try memory.stream(part, tokenizer), try cached.stream(part, tokenizer))
            #expect(try found.inputs == expected.inputs && found.targets == expected.targets)
            #expect(
                try found.targets(in: [0..<found.count]).characters
                    == expected.targets(in: [0..<expected.count]).characters)
        }
    }

    /// Pieces end where no word of BPE's does anything but end, at every size, and from file to file.
    @Test func piecesOfBytePairs() throws {
        let text = "It's  a\n\n  b;\n\nc \u{a0} d\u{301}\u{3000} e.\r\n\r\n\tf( g)\n漢字。\n漢字 12 34  \n"
        let place = folder.appending(path: "pairs")
        try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
        let scalars = Array(String(repeating: text, count: 9).unicodeScalars)
        for (number, start) in stride(from: 0, to: scalars.count, by: 37).enumerated() {
            var part = String.UnicodeScalarView()
            part.append(contentsOf: scalars[start..<min(start + 37, scalars.count)])
            try Data(String(part).utf8).write(to: place.appending(path: String(format: "%02d.txt", number)))
        }
        let whole = String(repeating: text, count: 9)
        for split in WordSplit.allCases {
            let words = split.words(of: whole)
            for size in 40..<90 {
                var found: [String] = []
                try TextFiles(place.path, pieceSize: size).forEachPiece { piece, _ in found += split.words(of: piece) }
                #expect(found == words, "\(split) \(size)")
            }
        }
    }

    /// Lines of JSON are the texts that they have, each with a new line after it.
    @Test func linesOfJSON() throws {
        let file = folder.appending(path: "lines.jsonl")
        let lines = #"{"id":1,"text":"Grüße\n\u0041","body":"x"}"# + "\r\n\n" + #"{"text":"","body":"y 😀"}"#
        try Data(lines.utf8).write(to: file)
        func read(_ field: String?, pieces: Int = 5) throws -> String {
            var text = ""
            try TextFiles(file.path, field: field, pieceSize: pieces).forEachPiece { piece, _ in text += piece }
            return text
        }
        #expect(try read(nil) == "Grüße\nA\n\n" && read("body", pieces: 100) == "x\ny 😀\n")
        func complaint(_ lines: String) throws -> String {
            try Data(lines.utf8).write(to: file)
            do { return try read(nil) } catch { return "\(error)" }
        }
        #expect(try complaint("{\"body\":\"a\"}").hasSuffix("no text \"text\" in line 1; give --field: body"))
        #expect(try complaint("{\"text\":\"a\"}\n[]").contains("in line 2; every line must be an object that has one"))
        #expect(try complaint("\n{\"text\":").contains("is not JSON in line 2"))
        #expect(try complaint("{\"text\":\"\\ud800\"}").contains("is not JSON in line 1"))
    }

    @Test func encodedOnceAndAgainWhenTheTextChanges() throws {
        let works = Mutex<[CorpusProgress.Work]>([])
        func read() throws -> (works: [CorpusProgress.Work], vocabulary: Int) {
            works.withLock { $0 = [] }
            let corpus = try cached(pieces: 1 << 20) { progress in works.withLock { $0.append(progress.work) } }
            let tokenizer = try corpus.tokenizer(nil)
            _ = try corpus.stream(.training, tokenizer)
            return (works.withLock { $0 }, tokenizer.vocabularySize)
        }
        let first = try read()
        #expect(first.works == [.reading, .reading, .encoding, .encoding])
        #expect(try read() == ([], first.vocabulary))
        let handle = try FileHandle(forWritingTo: folder.appending(path: "text/b/c.txt"))
        try handle.seekToEnd()
        try handle.write(contentsOf: Data("ÄÖ".utf8))
        try handle.close()
        #expect(try read() == (first.works, first.vocabulary + 2))
    }

    /// By another vocabulary than its own, too; what that does not have is named with its place in the whole text.
    @Test func anotherVocabulary() throws {
        let corpus = try cached()
        let more = try Tokenizer(.characters, text: text + "ß→x")
        let expected = try TextCorpus(name: "text", text: text).stream(.all, more)
        #expect(try corpus.stream(.all, more).inputs == expected.inputs)
        let fewer = try Tokenizer(.characters, text: text.replacingOccurrences(of: "€", with: ""))
        let position = try #require(text.unicodeScalars.firstIndex(of: "€"))
        #expect(
            throws: TokenizerError.unknownCharacter(
                "€", position: text.unicodeScalars.distance(from: text.unicodeScalars.startIndex, to: position))
        ) { try corpus.stream(.all, fewer) }
        let places = try FileManager.default.contentsOfDirectory(atPath: folder.appending(path: "cache/tokens").path)
        #expect(places.allSatisfy { !$0.contains(".new-") })
    }

    /// Trained from the cache to the bit as from memory.
    @Test func trainsAsFromMemory() throws {
        var configuration = smallConfiguration()
        configuration.length = .steps(3)
        func losses(_ corpus: TextCorpus) throws -> [Double] {
            let trainer = try Trainer(configuration, corpus: corpus)
            return try (0..<3).map { _ in try trainer.trainStep().loss } + [try trainer.validate().loss]
        }
        #expect(try losses(cached()) == losses(TextCorpus(name: "text", text: text)))
    }

    /// What a folder holds comes in the order of names, and the paths may be given one by one; what is not there, or not text, is
    /// named.
    @Test func pathsOfSeveral() throws {
        let both = "\(folder.path)/text/a.txt,\(folder.path)/text/b/c.txt"
        let (whole, several) = (try TextCorpus(path: folder.path + "/text"), try TextCorpus(path: both))
        let tokenizer = try whole.tokenizer(.bytes)
        #expect(try whole.stream(.all, tokenizer).inputs == several.stream(.all, tokenizer).inputs)
        #expect(try whole.stream(.all, tokenizer).count == text.utf8.count - 1)
        #expect(try TextCorpus.absolute(both) == both)
        func complaint(_ path: String) -> String {
            do {
                _ = try TextCorpus(path: path)
                return ""
            } catch { return "\(error)" }
        }
        #expect(
            complaint("\(folder.path)/text/a.txt,nowhere.txt").hasPrefix("there is no data set or file nowhere.txt"))
        try FileManager.default.createDirectory(
            at: folder.appending(path: "empty"), withIntermediateDirectories: true)
        #expect(complaint("\(folder.path)/empty").hasPrefix("there is no file in \(folder.path)/empty"))
        try Data([0x61, 0xff]).write(to: folder.appending(path: "text/d.bin"))
        #expect(complaint("\(folder.path)/text").hasPrefix("\(folder.path)/text/d.bin is not UTF-8 text"))
    }

    /// What is damaged while it is read says so, and what to do; one that is not whole is made again.
    @Test func damage() throws {
        let corpus = try cached()
        let tokenizer = try corpus.tokenizer(nil)
        let stream = try corpus.stream(.all, tokenizer)
        let tokens = folder.appending(path: "cache/tokens")
        let entry = try #require(
            try FileManager.default.contentsOfDirectory(atPath: tokens.path).first { !$0.hasSuffix(".lock") })
        let file = tokens.appending(path: "\(entry)/tokens.bin")
        let handle = try FileHandle(forWritingTo: file)
        try handle.write(contentsOf: Data([0xff]))
        try handle.truncate(atOffset: 1000)
        #expect(throws: FileError("\(file.path) is damaged; remove it, and it is made again")) { try stream(0..<5) }
        #expect(throws: FileError("\(file.path) has been cut short")) { try stream(995..<1005) }
        #expect(
            try corpus.stream(.all, tokenizer).inputs
                == TextCorpus(name: "text", text: text).stream(.all, tokenizer).inputs)
    }
}
