import Foundation
import Testing

@testable import FeedbackTransformer

/// `tokenizer.json` of byte-level BPE: what is taken, and what is refused by its name.
@Suite struct BPEFileTests {
    private let folder: TemporaryFolder
    private let good: String

    init() throws {
        folder = try TemporaryFolder()
        let tokenizer = try Tokenizer(.bpe, text: "the cat, the dog, the end", size: 259)
        good = String(decoding: try tokenizer.data(), as: UTF8.self)
    }

    private func read(_ text: String) throws -> Tokenizer {
        let file = folder.file("tokenizer.json")
        try Data(text.utf8).write(to: file)
        return try Tokenizer(contentsOf: file)
    }

    private func bpe(_ text: String) throws -> BPETokenizer {
        guard case .bpe(let bpe) = try read(text) else { throw TokenizerError.malformed("not BPE") }
        return bpe
    }

    private func with(_ from: String, _ to: String) -> String {
        #expect(good.contains(from), "\(from) is not in \(good)")
        return good.replacing(from, with: to)
    }

    @Test func readBackAsWritten() throws {
        #expect(String(decoding: try read(good).data(), as: UTF8.self) == good)
        #expect(
            try bpe(good).encode("the cat")
                == Tokenizer(.bpe, text: "the cat, the dog, the end", size: 259).encode("the cat"))
    }

    /// Merges as pairs, a mark that is a token, Llama 3's split, what stands around a text.
    @Test func filesFromElsewhere() throws {
        let pairs = good.replacing(/"merges":\[.*?\]/) { match in
            match.output.replacing(/"([^" ]+) ([^" ]+)"/) { "[\"\($0.1)\",\"\($0.2)\"]" }
        }
        #expect(pairs != good)
        #expect(try read(pairs) == read(good))
        let llama = WordSplit.llama3.pattern.replacing("\\", with: "\\\\")
        let text = good.replacing(/"pre_tokenizer":\{[^}]*\}/) { _ in
            #""pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":""# + llama
                + #""},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"#
                + #""trim_offsets":true,"use_regex":false}]}"#
        }.replacing(#""post_processor":null"#, with: #""post_processor":{"type":"TemplateProcessing","single":[]}"#)
            .replacing(#""ignore_merges":false"#, with: #""ignore_merges":true"#)
            .replacing(
                #""added_tokens":[]"#,
                with: #""added_tokens":[{"id":259,"content":"<|end|>","special":true,"lstrip":false},"#
                    + #"{"id":260,"content":"<|end|>s","special":false}]"#)
        let tokenizer = try bpe(text)
        #expect(tokenizer.split == .llama3 && tokenizer.takesWholeWords && tokenizer.special == [259])
        let encoded = tokenizer.encode("a<|end|> <|end|>s<|end")
        #expect(encoded.prefix(2) == [97, 259] && encoded[3] == 260)
        #expect(Tokenizer.bpe(tokenizer).decode(encoded) == "a<|end|> <|end|>s<|end")
        #expect(try read(String(decoding: Tokenizer.bpe(tokenizer).data(), as: UTF8.self)) == .bpe(tokenizer))
    }

    @Test func refusedByName() throws {
        let cases: [(String, String, String)] = [
            (#""normalizer":null"#, #""normalizer":{"type":"NFC"}"#, "normalizer NFC"),
            (#""padding":null"#, #""padding":{}"#, "padding"),
            (#""truncation":null"#, #""truncation":{}"#, "truncation"),
            (#""dropout":null"#, #""dropout":0.1"#, "dropout"),
            (#""byte_fallback":false"#, #""byte_fallback":true"#, "byte_fallback"),
            (#""end_of_word_suffix":null"#, #""end_of_word_suffix":"</w>""#, "end_of_word_suffix"),
            (#""ignore_merges":false"#, #""ignore_merges":1"#, "ignore_merges"),
            (#""decoder":{"type":"ByteLevel""#, #""decoder":{"type":"Fuse""#, "decoder Fuse"),
            (#""post_processor":null"#, #""post_processor":{"type":"BertProcessing"}"#, "BertProcessing"),
            (
                #""pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false"#,
                #""pre_tokenizer":{"type":"ByteLevel","add_prefix_space":true"#, "add_prefix_space"
            ),
            (#""trim_offsets":false,"use_regex":true"#, #""trim_offsets":false,"use_regex":false"#, "use_regex"),
            (#""pre_tokenizer":{"type":"ByteLevel""#, #""pre_tokenizer":{"type":"Metaspace""#, "Metaspace"),
            (
                #""pre_tokenizer":{"#,
                #""pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"a+"}},{}]},"x":{"#,
                "only GPT-2's and Llama 3's: a+"
            ),
            (#""added_tokens":[]"#, #""added_tokens":[{"id":259,"content":"<a b>"}]"#, "white space"),
            (#""added_tokens":[]"#, #""added_tokens":[{"id":259,"content":"<a>","lstrip":true}]"#, "lstrip"),
            (#""added_tokens":[]"#, #""added_tokens":[{"id":260,"content":"<a>"}]"#, "no number from 0 to 259"),
            (#""added_tokens":[]"#, #""added_tokens":[{"id":97,"content":"<a>"}]"#, "the token 97 twice"),
            (#""added_tokens":[]"#, #""added_tokens":[{"id":259,"content":""}]"#, "no text"),
            (#""added_tokens":[]"#, #""added_tokens":5"#, "no list"), (#""a":97,"#, "", "has no token from 0 to 257"),
            (#""a":97"#, #""ab":97"#, "the byte 97"), (#""a":97"#, #""a":98"#, "98 twice"),
            (#""a":97"#, #""a":-1"#, "no token from 0"),
            (#""a":97"#, #""a":9.5"#, "no token from 0"), (#""a":97"#, #""a":4000"#, "no token from 0"),
            (#""a":97"#, #""漢":97"#, "stand for bytes"), (#""merges":["#, #""merges":["a b","#, "merge 0"),
            (#""merges":["#, #""merges":["h e","#, "merge 1 is there twice"),
            (#""merges":["#, #""merges":["th","#, "merge 0"),
            (#""merges":["#, #""merges":[["t"],"#, "merge 0"), (#""merges":["#, #""merges":[7,"#, "merge 0"),
        ]
        for (from, to, message) in cases {
            do {
                _ = try read(with(from, to))
                Issue.record("\(to) is taken")
            } catch let error as TokenizerError {
                #expect("\(error)".contains(message), "\(error)")
                #expect(!"\(error)".contains("\n"))
            }
        }
        for text in ["", "{", "[]", "null", good + "x", String(good.dropLast(40)), with(#""a":97"#, #""a":97,"a":97"#)]
        {
            #expect(throws: TokenizerError.self) { try read(text) }
        }
    }

    /// Anything may be in a file: it is read or refused.
    @Test func damagedFiles() throws {
        var random = RandomSource(seed: 11)
        let bytes = Array(good.utf8)
        for _ in 0..<300 {
            var damaged = bytes
            for _ in 0...random.below(3) {
                let at = random.below(damaged.count)
                switch random.below(3) {
                case 0: damaged[at] = UInt8(random.below(256))
                case 1: damaged.removeSubrange(at..<min(damaged.count, at + 1 + random.below(9)))
                default: damaged.insert(contentsOf: damaged[at..<min(damaged.count, at + random.below(20))], at: at)
                }
            }
            let file = folder.file("tokenizer.json")
            try Data(damaged).write(to: file)
            guard let tokenizer = try? Tokenizer(contentsOf: file) else { continue }
            let tokens = try tokenizer.encode("the end of a dog")
            #expect(tokenizer.decode(tokens) == "the end of a dog")
        }
    }
}
