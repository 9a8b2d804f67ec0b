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
        let tokenizer = try corpus.tokenizer(nil)
        #expect(try corpus.stream(.training, tokenizer).inputs.count == 18)
        let validation = try corpus.stream(.validation, tokenizer)
        #expect(validation.inputs == [5, 6] && validation.targets == [6, 7] && validation.characters == 2)
        #expect(try corpus.stream(.all, tokenizer).count == 21)
        #expect(throws: CorpusError.self) { try corpus.stream(.test, tokenizer) }
    }

    /// Bits a character are the text's, whatever its tokens are.
    @Test func charactersThatTokensStandFor() throws {
        let corpus = try TextCorpus(name: "x", text: "So é€😀, said she.")
        #expect(try corpus.stream(.all, corpus.tokenizer(.bytes)).count == 17 - 1 + 6)
        #expect(try corpus.stream(.all, corpus.tokenizer(.bytes)).characters == 16)
        #expect(try corpus.stream(.all, corpus.tokenizer(.words)).characters == "é€😀 , said she .".count)
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
