import FeedbackTransformer
import Testing

@Suite struct TextGeneratorTests {
    private let folder: ModelFolder

    init() throws {
        let tokenizer = CharacterTokenizer("abcde \n")
        let wiring = Wiring(dModel: 12, vocabulary: tokenizer.vocabularySize, positions: 64)
        folder = ModelFolder(model: try wiring.model(), tokenizer: tokenizer)
    }

    private func pieces(
        _ prompt: String = "ab", maxTokens: Int = 60, temperature: Double = 1, stops: [String] = []
    ) throws -> [String] {
        var generator = try TextGenerator(
            folder, prompt: prompt, maxTokens: maxTokens, sampler: Sampler(temperature: temperature, seed: 3),
            stops: stops)
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

    @Test func unusableRequestsAreRefused() {
        #expect(throws: TokenizerError.unknownCharacter("z", position: 2)) { try pieces("abz") }
        #expect(throws: ConfigurationError.self) { try pieces("") }
        #expect(throws: ConfigurationError.self) { try pieces(maxTokens: -1) }
        #expect(throws: ConfigurationError.self) { try pieces(stops: [""]) }
    }
}
