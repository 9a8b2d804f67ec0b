import FeedbackTransformer
import Foundation
import Testing

@testable import FeedbackTraining

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
        #expect(try validation.inputs == [5, 6] && validation.targets == [6, 7])
        #expect(try corpus.stream(.all, tokenizer).count == 21)
        #expect(throws: CorpusError.self) { try corpus.stream(.test, tokenizer) }
    }

    /// Bits a character are the text's, whatever its tokens are.
    @Test func charactersThatTokensStandFor() throws {
        let corpus = try TextCorpus(name: "x", text: "So é€😀, said she.")
        #expect(try corpus.stream(.all, corpus.tokenizer(.bytes)).count == 17 - 1 + 6)
        func characters(_ kind: Tokenizer.Kind) throws -> Int {
            let stream = try corpus.stream(.all, corpus.tokenizer(kind))
            return try stream.targets(in: [0..<stream.count]).characters
        }
        #expect(try characters(.characters) == 16 && characters(.bytes) == 16)
        #expect(try characters(.words) == "é€😀 , said she .".count)
        #expect(try characters(.bpe) == 16)
    }

    /// A text for validation leaves all of the other for training; both make the vocabulary, but only the one what is merged.
    @Test func validationByAnotherText() throws {
        let text = "abab abab cdcd abab cdcd abab"
        let corpus = try TextCorpus(name: "x", text: text).validated(
            by: TextCorpus(name: "y", text: "zzzz zzzz ab"))
        let characters = try corpus.tokenizer(nil)
        #expect(characters.vocabularySize == 6)
        #expect(try corpus.stream(.training, characters).count == text.count - 1)
        #expect(try corpus.stream(.validation, characters).count == 11)
        #expect(
            corpus.name(of: .validation) == "y" && corpus.name(of: .training) == "x" && corpus.name(of: .all) == "x")
        let pairs = try corpus.tokenizer(.bpe, size: 300)
        #expect(pairs == (try Tokenizer(.bpe, text: text, size: 300)))
        #expect(pairs != (try TextCorpus(name: "x", text: text).tokenizer(.bpe, size: 300)))
        let stream = try corpus.stream(.validation, pairs)
        #expect(try stream.targets(in: [0..<stream.count]).characters == 11)
    }

    @Test func filesAreUTF8Text() throws {
        let corpus = try TextCorpus(path: file(Data("\u{feff}grüß\r\n".utf8)).path)
        #expect(try corpus.stream(.all, corpus.tokenizer(nil)).count == 5)
        #expect(throws: CorpusError.self) { try TextCorpus(path: file(Data([0x61, 0xff, 0x62])).path) }
        #expect(throws: CorpusError.self) { try TextCorpus(path: file(Data()).path) }
        #expect(throws: CorpusError.self) { try TextCorpus(path: "/nowhere/text.txt") }
    }

    @Test func namesAndPaths() async throws {
        let url = try file(Data("some text".utf8))
        #expect(try await TextCorpus.named(url.path).tokenizer(nil).vocabularySize == "some tx".count)
        await #expect(throws: CorpusError.self) { try await TextCorpus.named("no_such_data") }
    }
}
