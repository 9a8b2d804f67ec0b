import FeedbackTraining
import FeedbackTransformer
import Foundation
import Testing

@Suite struct CorpusTests {
    private func file(_ data: Data) throws -> URL {
        let url = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).txt")
        try data.write(to: url)
        return url
    }

    @Test func splitIsNineTenths() throws {
        let corpus = try TextCorpus(name: "x", text: String(repeating: "abcdefg", count: 3) + "x")
        let (training, validation) = try corpus.split(CharacterTokenizer(corpus.text))
        #expect(training.count == 19 && validation.count == 3)
        #expect(validation == [5, 6, 7])
    }

    @Test func filesAreUTF8Text() throws {
        #expect(try TextCorpus(contentsOf: file(Data("grüß\r\n".utf8))).text.unicodeScalars.count == 6)
        #expect(throws: CorpusError.self) { try TextCorpus(contentsOf: file(Data([0x61, 0xff, 0x62]))) }
        #expect(throws: CorpusError.self) { try TextCorpus(contentsOf: file(Data())) }
        #expect(throws: FileError.self) { try TextCorpus(contentsOf: URL(filePath: "/nowhere/text.txt")) }
    }

    @Test func namesAndPaths() async throws {
        let url = try file(Data("some text".utf8))
        #expect(try await TextCorpus.named(url.path).text == "some text")
        await #expect(throws: CorpusError.self) { try await TextCorpus.named("no_such_data") }
    }
}
