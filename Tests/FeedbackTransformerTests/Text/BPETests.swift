import Foundation
import Testing

@testable import FeedbackTransformer

@Suite struct BPETests {
    static let mixed =
        "He'd say: it's 1,024 \"words\", isn't it?\r\n\r\n\tif (a != b) { return x[10]; }  // done\n\n\n   "
        + "Größe café cafe\u{301} e\u{308}\u{301} Привет, мир! שלום עולם ١٢٣ ½ Ⅷ 漢字かな交じり文。\u{3000}全角\u{a0}nbsp "
        + "👩‍👩‍👧‍👦🇩🇪👍🏽 e\u{300}.\u{0}\u{7f}\u{200b}\u{2028}end   \n  "

    // MARK: Splits

    /// What the regular expressions make of these: the words, with | between.
    @Test(arguments: [
        ("He said it's, don't", "He| said| it|'s|,| don|'t"),
        ("'really 'll'd 's x'RE", "'re|ally| '|ll|'d| '|s| x|'|RE"),
        ("a  b   c", "a| | b|  | c"), ("a \n b", "a| \n| b"), ("a\nb", "a|\n|b"), ("a\n\nb", "a|\n|\n|b"),
        ("\r\n\r\nx", "\r\n\r|\n|x"), ("end  ", "end|  "), (" ", " "), ("\t\tx", "\t|\t|x"), ("", ""),
        ("x=10;// ab12", "x|=|10|;//| ab|12"), ("cafe\u{301}s", "cafe|\u{301}|s"), ("½Ⅷ١٢ 漢字", "½Ⅷ١٢| 漢字"),
        ("\u{a0}a \u{3000}b", "\u{a0}|a| |\u{3000}|b"), ("hi👍🏽 👩‍👩‍👧 you", "hi|👍🏽| 👩‍👩‍👧| you"),
        ("שלום, עולם", "שלום|,| עולם"), ("''s", "''|s"), (" 's", " '|s"),
    ]) func splitAsGPT2(text: String, words: String) {
        expect(.gpt2, text, words)
    }

    @Test(arguments: [
        ("He said it's, DON'T x'ſ", "He| said| it|'s|,| DON|'T| x|'ſ"), ("1234567 89", "123|456|7| |89"),
        ("a;\n\n b", "a|;\n\n| b"), ("(ab", "(ab"), ("a \n\t\n  b", "a| \n\t\n| | b"), ("\t\tx", "\t|\tx"),
        ("\nx", "\n|x"), ("end  ", "end|  "), (" !\r\n", " !\r\n"), ("1 +", "1| +"), ("\u{a0}a", "\u{a0}a"),
        ("x  1", "x| | |1"), (" \u{301}a", " \u{301}|a"), ("\u{301}a", "\u{301}a"),
    ]) func splitAsLlama3(text: String, words: String) {
        expect(.llama3, text, words)
    }

    private func expect(_ split: WordSplit, _ text: String, _ words: String) {
        let found = split.words(of: text).joined(separator: "|")
        #expect(Array(found.utf8) == Array(words.utf8), "\(found.debugDescription)")
    }

    // MARK: Training

    /// By hand: "ab" three times, then of "ab"+"c" and " "+"ab", both twice, that of the lower bytes.
    @Test func mergesByHand() throws {
        let bpe = try tokenizer("abc abc ab", 258)
        #expect(bpe.merges.map { [$0.left, $0.right, $0.result] } == [[97, 98, 256], [32, 256, 257]])
        #expect(bpe.encode("ab abc b") == [256, 257, 99, 32, 98])
    }

    @Test func overlappingPairs() throws {
        let bpe = try tokenizer("aaaaa aaaaa", 300)
        #expect(bpe.merges.first.map { [$0.left, $0.right] } == [97, 97])
        #expect(Tokenizer.bpe(bpe).decode(bpe.encode("aaaaaaa")) == "aaaaaaa")
        #expect(bpe.tokens.count < 300)
        #expect(try tokenizer("", 300).tokens.count == 256 && tokenizer("abc", 300).merges.isEmpty)
    }

    /// Every merge is that of the commonest pair, counted anew.
    @Test func mergesAreThoseOfCountingAnew() throws {
        var random = RandomSource(seed: 5)
        for round in 0..<10 {
            let letters = Array("aab b\n cé")
            let text = String((0..<400).map { _ in letters[random.below(letters.count - (round % 3))] })
            let bpe = try tokenizer(text, 290)
            var words = WordSplit.gpt2.words(of: text).map { $0.utf8.map { [$0] } }
            var (learned, known): ([[[UInt8]]], Set<[UInt8]>) = ([], Set((0..<256).map { [UInt8($0)] }))
            func number(_ token: [UInt8]) -> Int { bpe.tokens.firstIndex(of: token) ?? .max }
            while known.count < 290 {
                var counts: [[[UInt8]]: Int] = [:]
                for word in words { for (a, b) in zip(word, word.dropFirst()) { counts[[a, b], default: 0] += 1 } }
                let best = counts.max {
                    ($0.value, -number($0.key[0]), -number($0.key[1])) < (
                        $1.value, -number($1.key[0]), -number($1.key[1])
                    )
                }
                guard let best, best.value > 1 else { break }
                if !learned.contains(best.key) { learned.append(best.key) }
                known.insert(best.key[0] + best.key[1])
                words = words.map { word in
                    var (merged, index): ([[UInt8]], Int) = ([], 0)
                    while index < word.count {
                        let isPair =
                            index + 1 < word.count && word[index] == best.key[0] && word[index + 1] == best.key[1]
                        merged.append(isPair ? word[index] + word[index + 1] : word[index])
                        index += isPair ? 2 : 1
                    }
                    return merged
                }
            }
            #expect(bpe.merges.map { [bpe.tokens[Int($0.left)], bpe.tokens[Int($0.right)]] } == learned, "\(round)")
        }
    }

    @Test func trainingTwiceGivesTheSame() throws {
        let text = String(repeating: Self.mixed, count: 3) + "other words, other counts"
        let files = try (0..<2).map { _ in try Tokenizer(.bpe, text: text, size: 400).data() }
        #expect(files[0] == files[1])
    }

    // MARK: Encoding

    @Test func decodingGivesTheTextBack() throws {
        let tokenizer = try Tokenizer(.bpe, text: Self.mixed, size: 330)
        var random = RandomSource(seed: 9)
        let scalars = Array(Self.mixed.unicodeScalars)
        for length in [0, 1, 2, 7, 40, 300, 3000] {
            var text = String.UnicodeScalarView()
            for _ in 0..<length {
                let any = Unicode.Scalar(UInt32(random.below(0x11_0000)))
                text.append(random.below(3) == 0 ? any ?? "x" : scalars[random.below(scalars.count)])
            }
            let tokens = try tokenizer.encode(String(text))
            #expect(Array(tokenizer.decode(tokens).utf8) == Array(String(text).utf8))
        }
    }

    /// A long word, whose pairs a heap has, is encoded as one whose pairs are searched; and an encoder that remembers words encodes
    /// as one that does not.
    @Test func longWordsAndRememberedOnes() throws {
        var random = RandomSource(seed: 3)
        let text = String((0..<4000).map { _ in ["ab", "a", "bab", "ba", "c"][random.below(5)] }.joined())
        let bpe = try tokenizer(
            (0..<200).map { String(text.dropFirst($0 * 20).prefix(20)) }.joined(separator: " "), 320)
        #expect(bpe.encode(text) == reference(bpe, Array(text.utf8)))
        let encode = Tokenizer.bpe(bpe).encoder()
        for _ in 0..<2 { #expect(try encode(Self.mixed) == bpe.encode(Self.mixed)) }
        let time = try ContinuousClock().measure { _ = try encode(String(repeating: "ab", count: 200_000)) }
        #expect(time < .seconds(30))
    }

    private func reference(_ bpe: BPETokenizer, _ word: [UInt8]) -> [Int32] {
        var tokens = word.map { byte in Int32(bpe.tokens.firstIndex(of: [byte])!) }
        for merge in bpe.merges {
            var at = 0
            while at + 1 < tokens.count {
                if tokens[at] == merge.left, tokens[at + 1] == merge.right {
                    tokens[at] = merge.result
                    tokens.remove(at: at + 1)
                }
                at += 1
            }
        }
        return tokens
    }

    /// Pieces of streamed text are whole characters, wherever tokens end.
    @Test func streamsWholeCharacters() throws {
        let tokenizer = try Tokenizer(.bpe, text: String(repeating: "👍🏽漢字 é", count: 9), size: 262)
        for text in [Self.mixed, "👍👍🏽 漢é字"] {
            let tokens = try tokenizer.encode(text)
            var stream = TextStream(tokenizer, after: "")
            let pieces = tokens.map { stream.append($0) } + [stream.finish()]
            #expect(Array(pieces.joined().utf8) == Array(text.utf8))
            #expect(pieces.allSatisfy { !$0.unicodeScalars.contains("\u{fffd}") })
            #expect(pieces.contains(""))
        }
    }

    private func tokenizer(_ text: String, _ size: Int) throws -> BPETokenizer {
        guard case .bpe(let bpe) = try Tokenizer(.bpe, text: text, size: size) else {
            throw TokenizerError.malformed("")
        }
        return bpe
    }
}
