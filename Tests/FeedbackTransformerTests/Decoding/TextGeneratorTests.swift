import FeedbackEngine
import FeedbackTransformer
import Testing

@Suite struct TextGeneratorTests {
    private let folder: ModelFolder

    init() throws { folder = try Self.folder(.characters, "abcde \n") }

    private static func folder(_ kind: Tokenizer.Kind, _ text: String) throws -> ModelFolder {
        let tokenizer = try Tokenizer(kind, text: text)
        let wiring = Wiring(dModel: 12, vocabulary: tokenizer.vocabularySize, positions: 64)
        return ModelFolder(model: wiring.model(), tokenizer: tokenizer)
    }

    private func pieces(
        _ prompt: String = "ab", of folder: ModelFolder? = nil, maxTokens: Int = 60, temperature: Double = 1,
        seed: UInt64 = 3, stops: [String] = []
    ) throws -> [String] {
        var generator = try TextGenerator(
            folder ?? self.folder, on: CPUBackend(), prompt: prompt, maxTokens: maxTokens,
            sampler: Sampler(temperature: temperature, seed: seed), stops: stops)
        var pieces: [String] = []
        while let piece = try generator.next() { pieces.append(piece) }
        #expect(try generator.next() == nil)
        return pieces
    }

    @Test func producesAsManyCharactersAsAsked() throws {
        for count in [0, 1, 60] { #expect(try pieces(maxTokens: count).joined().count == count) }
    }

    @Test func comesPieceByPiece() throws {
        #expect(try pieces().allSatisfy { $0.count == 1 })
    }

    /// Every stop that occurs anywhere in the text ends it just before, wherever it is cut into tokens.
    @Test func endsBeforeAStop() throws {
        let text = Array(try pieces().joined())
        for length in 1...4 {
            for start in stride(from: 0, through: text.count - length, by: 5) {
                let stop = String(text[start..<start + length])
                let expected = String(text.prefix((0...start).first { text[$0...].starts(with: stop) }!))
                let stopped = try pieces(stops: ["never", stop])
                #expect(stopped.joined() == expected)
                #expect(stopped.allSatisfy { !$0.isEmpty })
            }
        }
    }

    @Test func textThatOnlyBeginsAStopIsNotLost() throws {
        let text = try pieces().joined()
        #expect(try pieces(stops: [String(text.suffix(3)) + "x"]).joined() == text)
    }

    /// A stop may lie in the middle of a token.
    @Test func endsInsideAToken() throws {
        let tokenizer = try Tokenizer(.words, text: "hello there world")
        func text(_ stops: [String]) throws -> [String] {
            var stream = TextStream(tokenizer, after: "hello", stops: stops)
            return try tokenizer.encode("there world hello").map { stream.append($0) } + [stream.finish()]
        }
        #expect(try text([]) == [" there", " world", " hello", ""])
        #expect(try text(["or"]) == [" there", " w", "", ""])
        #expect(try text(["re wo"]) == [" the", "", "", ""])
        #expect(try text(["hello!"]) == [" there", " world", " ", "hello"])
    }

    @Test func unusableRequestsAreRefused() {
        #expect(throws: TokenizerError.unknownCharacter("z", position: 2)) { try pieces("abz") }
        #expect(throws: ConfigurationError.self) { try pieces("") }
        #expect(throws: ConfigurationError.self) { try pieces(maxTokens: -1) }
        #expect(throws: ConfigurationError.self) { try pieces(stops: [""]) }
    }

    /// Whatever bytes come, and wherever a stop lies among them, the pieces are whole characters and together what all the
    /// bytes make. The model's bytes are hardly ever UTF-8: its bias is turned to those of a few characters.
    @Test(arguments: 0..<40) func streamedBytesNeverBreakACharacter(seed: UInt64) throws {
        var folder = try Self.folder(.bytes, "")
        var bias = Array(repeating: Float(-40), count: 256)
        for byte in "aé€😀".utf8 { bias[Int(byte)] = 0 }
        folder.model.parameters["generator.bias"] = bias
        func pieces(stops: [String]) throws -> [String] {
            try self.pieces("a", of: folder, temperature: 8, seed: seed, stops: stops)
        }
        var tokens: [Int32] = []
        var sampler = try Sampler(temperature: 8, seed: seed)
        let decoder = Decoder(folder.model)
        let sequence = decoder.makeSequence()
        for _ in 0..<60 {
            tokens.append(try sampler.next(decoder.step([sequence], tokens: [tokens.last ?? 0x61])[0]))
        }
        let text = try pieces(stops: [])
        #expect(text.joined() == folder.tokenizer.decode(tokens))
        #expect(text.count > 20 && text.allSatisfy { !$0.isEmpty })
        for stop in ["é", "€", "a"] {
            let bytes = tokens.map { UInt8($0) }
            let end = bytes.indices.first { bytes[$0...].starts(with: stop.utf8) } ?? bytes.count
            #expect(try pieces(stops: [stop]).joined() == String(decoding: bytes[..<end], as: UTF8.self))
        }
    }

    @Test func wordsComeWithTheSpacesBetween() throws {
        let folder = try Self.folder(.words, "the cat sat on a mat.")
        func text(_ prompt: String) throws -> [String] {
            try self.pieces(prompt, of: folder, maxTokens: 3, seed: 1)
        }
        let pieces = try text("The cat")
        #expect(pieces.count == 3 && pieces.allSatisfy { $0.hasPrefix(" ") && !$0.dropFirst().contains(" ") })
        #expect(try text("The cat ").joined() == pieces.joined().dropFirst())
        #expect(throws: TokenizerError.unknownWord("dog", position: 4)) { try text("the dog") }
        #expect(throws: ConfigurationError.self) { try text(" ;\" ") }
    }
}
