import FeedbackTransformer
import Foundation
import Testing

@Suite struct CharacterTokenizerTests {
    @Test func tokensAreTheSortedCharacters() throws {
        let tokenizer = CharacterTokenizer("banana\r\n é😀")
        #expect(tokenizer.characters == ["\n", "\r", " ", "a", "b", "n", "é", "😀"])
        #expect(try tokenizer.encode("ban") == [4, 3, 5])
        #expect(tokenizer.decode([7, 1, 0, 6]) == "😀\r\né")
        #expect(try tokenizer.decode(tokenizer.encode("banana\r\n é😀")) == "banana\r\n é😀")
    }

    @Test func unknownCharactersAreNamedWithTheirPosition() {
        let tokenizer = CharacterTokenizer("ab")
        #expect(throws: TokenizerError.unknownCharacter("c", position: 3)) { try tokenizer.encode("abacab") }
        let message = TokenizerError.unknownCharacter("\u{7}", position: 3).description
        #expect(message.contains("\"\\u{07}\" at position 3"))
    }

    @Test func fileReadsBack() throws {
        let folder = try TemporaryFolder()
        let tokenizer = CharacterTokenizer("\u{0}\t\"\\/ ü中😀abc\u{301}")
        try tokenizer.write(to: folder.file("tokenizer.json"))
        #expect(try CharacterTokenizer(contentsOf: folder.file("tokenizer.json")) == tokenizer)
    }

    @Test func filesThatAreNoCharacterTokenizerAreRefused() throws {
        let folder = try TemporaryFolder()
        let file = folder.file("tokenizer.json")
        try CharacterTokenizer("abc").write(to: file)
        let good = try String(contentsOf: file, encoding: .utf8)
        let damages = [
            ("\"BPE\"", "\"WordPiece\""), ("\"b\" : 1", "\"b\" : 2"), ("\"b\" : 1", "\"b\" : -1"),
            ("\"b\" : 1", "\"b\" : 7"), ("\"b\" : 1", "\"bb\" : 1"), ("\"b\" : 1", "\"\" : 1"),
            ("\"b\" : 1", "\"b\" : 1.5"), ("\"merges\" : [\n\n    ]", "\"merges\" : [\"a b\"]"), ("{", "["),
            ("\"a\" : 0,\n      \"b\" : 1,\n      \"c\" : 2", ""),
        ]
        for (from, to) in damages {
            #expect(good.contains(from), "\(from) is not in \(good)")
            try good.replacingOccurrences(of: from, with: to).write(to: file, atomically: true, encoding: .utf8)
            #expect(throws: TokenizerError.self, "\(to)") { try CharacterTokenizer(contentsOf: file) }
        }
    }
}
