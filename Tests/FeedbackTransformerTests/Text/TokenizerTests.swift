import FeedbackTransformer
import Foundation
import Testing

@Suite struct TokenizerTests {
    private static let text = "Don't panic, (\"ÉTÉ\")! <br />a.b; c:d?\r\n\t€😀 \u{0}x\u{301}"

    @Test func charactersAreSorted() throws {
        let tokenizer = try Tokenizer(.characters, text: "banana\r\n é😀")
        guard case .characters(let own) = tokenizer else { return #expect(Bool(false)) }
        #expect(own.characters == ["\n", "\r", " ", "a", "b", "n", "é", "😀"])
        #expect(try tokenizer.encode("ban") == [4, 3, 5])
        #expect(tokenizer.decode([7, 1, 0, 6]) == "😀\r\né")
    }

    @Test func bytesAreUTF8() throws {
        let tokenizer = try Tokenizer(.bytes, text: "")
        #expect(tokenizer.vocabularySize == 256)
        #expect(try tokenizer.encode("a€") == [0x61, 0xe2, 0x82, 0xac])
        #expect(tokenizer.decode([0x61, 0xe2, 0x82]) == "a\u{fffd}")
    }

    /// What torchtext's `basic_english` makes of these.
    @Test(arguments: [
        (
            "You can now install TorchText using pip!",
            ["you", "can", "now", "install", "torchtext", "using", "pip", "!"]
        ),
        ("Don't", ["don", "'", "t"]), ("a.b; c:d?", ["a", ".", "b", "c", "d", "?"]), ("say \"No\"", ["say", "no"]),
        ("x<br />y<BR />z", ["x", "y", "z"]), ("<b\"r />", []), ("<br/>", ["<br/>"]), ("(ÉTÉ)", ["(", "été", ")"]),
        ("one\u{a0}two\u{3000}three", ["one", "two", "three"]), ("-- 3,5", ["--", "3", ",", "5"]), (" \n", []),
    ]) func wordsAreBasicEnglish(text: String, words: [String]) throws {
        let tokenizer = try Tokenizer(.words, text: text)
        #expect(try tokenizer.decode(tokenizer.encode(text)) == words.joined(separator: " "))
        #expect(tokenizer.vocabularySize == Set(words).count)
    }

    @Test func symbolsAreWhatWhiteSpaceSeparates() throws {
        let tokenizer = try Tokenizer(.symbols, text: "x = 10 ;\nEND x ++ ;")
        guard case .words(let own) = tokenizer else { return #expect(Bool(false)) }
        #expect(own.words == ["++", "10", ";", "=", "END", "x"] && tokenizer.kind == .symbols)
        #expect(try tokenizer.decode(tokenizer.encode(" x\t= 10 ; ")) == "x = 10 ;")
    }

    @Test func whatIsUnknownIsNamedWithItsPosition() throws {
        let characters = try Tokenizer(.characters, text: "ab")
        #expect(throws: TokenizerError.unknownCharacter("c", position: 3)) { try characters.encode("abacab") }
        let message = TokenizerError.unknownCharacter("\u{7}", position: 3).description
        #expect(message.contains("\"\\u{07}\" at position 3"))
        let words = try Tokenizer(.words, text: "The cat.")
        #expect(throws: TokenizerError.unknownWord("dog", position: 10)) { try words.encode("The \"cat. DOG") }
        #expect(
            TokenizerError.unknownWord("dog", position: 9).description.hasPrefix(
                "the word \"dog\" at position 9 is not"))
    }

    @Test(arguments: Tokenizer.Kind.allCases) func filesReadBack(kind: Tokenizer.Kind) throws {
        let folder = try TemporaryFolder()
        let tokenizer = try Tokenizer(kind, text: Self.text)
        let file = folder.file("tokenizer.json")
        try tokenizer.write(to: file)
        let read = try Tokenizer(contentsOf: file)
        #expect(read == tokenizer && read.kind == kind)
        #expect(try read.encode(Self.text) == tokenizer.encode(Self.text))
        if tokenizer.separator.isEmpty {
            #expect(try Array(read.decode(read.encode(Self.text)).utf8) == Array(Self.text.utf8))
        }
    }

    /// Two codes of one character would be one key of a file's vocabulary. Words that are the same are one token.
    @Test func textThatIsNotNormalized() throws {
        let text = "\u{c5} \u{212b}"
        #expect {
            try Tokenizer(.characters, text: text)
        } throws: { "\($0)".contains("both U+C5 and U+212B") }
        let words = try Tokenizer(.symbols, text: text)
        #expect(try words.vocabularySize == 1 && words.encode(text) == [0, 0])
        #expect(Array(words.decode([0]).utf8) == Array("\u{c5}".utf8))
    }

    @Test func otherFilesAreRefused() throws {
        let folder = try TemporaryFolder()
        let file = folder.file("tokenizer.json")
        func check(_ kind: Tokenizer.Kind, _ damages: [(String, String)]) throws {
            try Tokenizer(kind, text: "a b c").write(to: file)
            let good = try String(contentsOf: file, encoding: .utf8)
            for (from, to) in damages {
                #expect(good.contains(from), "\(from) is not in \(good)")
                try good.replacingOccurrences(of: from, with: to).write(to: file, atomically: true, encoding: .utf8)
                #expect(throws: TokenizerError.self, "\(to)") { try Tokenizer(contentsOf: file) }
            }
        }
        try check(
            .characters,
            [
                ("\"BPE\"", "\"WordPiece\""), ("\"BPE\"", "\"WordLevel\""), ("\"b\" : 2", "\"b\" : 1"),
                ("\"b\" : 2", "\"b\" : -1"), ("\"b\" : 2", "\"b\" : 7"), ("\"b\" : 2", "\"bb\" : 2"),
                ("\"b\" : 2", "\"ab\" : 2"), ("\"b\" : 2", "\"\" : 2"), ("\"b\" : 2", "\"b\" : 1.5"),
                ("\"merges\" : [\n\n    ]", "\"merges\" : [\"a b\"]"), ("{", "["),
                ("\" \" : 0,\n      \"a\" : 1,\n      \"b\" : 2,\n      \"c\" : 3", ""), ("\"Fuse\"", "\"ByteLevel\""),
            ])
        try check(.bytes, [("\"a\" : 97", "\"aa\" : 97"), ("\"use_regex\" : false", "\"use_regex\" : 3")])
        try check(.words, [("\"Lowercase\"", "\"NFC\""), ("\"WhitespaceSplit\"", "\"Whitespace\"")])
        try check(.symbols, [("\"WordLevel\"", "\"Unigram\""), ("\"<unk>\"", "\"a\"")])
    }
}
