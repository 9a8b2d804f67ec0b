import FeedbackEngine

/// Continues a prompt, piece by piece, as the model's text comes.
///
/// ```swift
/// let folder = try ModelFolder(contentsOf: URL(filePath: "model"))
/// var generator = try TextGenerator(folder, prompt: "ROMEO:", maxTokens: 200, sampler: Sampler(temperature: 0.8))
/// while let piece = try generator.next() { print(piece, terminator: "") }
/// ```
public struct TextGenerator {
    private let decoder: Decoder
    private let sequence: Decoder.Sequence
    private var sampler: Sampler
    private var text: TextStream
    /// Tokens still to come.
    private var left: Int
    private var logits: [Float] = []

    /// - Parameters:
    ///   - folder: the model and its tokenizer.
    ///   - prompt: what to continue; at least one token, all in the vocabulary.
    ///   - maxTokens: how many tokens to generate at most.
    ///   - sampler: what chooses each token.
    ///   - stops: texts that end the generation; they are not part of it.
    ///   - memoryWindow: the memories a step sees; as many as in training where nil.
    ///   - precision: the decoder's, of weights and memories.
    ///   - threads: how many share a step's work, this one included.
    public init(
        _ folder: ModelFolder, prompt: String, maxTokens: Int, sampler: Sampler, stops: [String] = [],
        memoryWindow: Int? = nil, precision: DecodingPrecision = .float32, threads: Int = 1
    ) throws {
        let tokens = try folder.tokenizer.encode(prompt)
        guard !tokens.isEmpty else {
            throw ConfigurationError("the prompt is empty; give at least one character to continue")
        }
        guard maxTokens >= 0 else { throw ConfigurationError("max-tokens is \(maxTokens); it must be 0 or more") }
        guard !stops.contains("") else { throw ConfigurationError("a stop is empty; give at least one character") }
        let window = memoryWindow ?? folder.memoryWindow
        guard (1...folder.model.configuration.window).contains(window) else {
            throw ConfigurationError(
                "memory-window is \(window); this model allows 1 to \(folder.model.configuration.window)")
        }
        decoder = Decoder(folder.model, memoryWindow: window, precision: precision, threads: threads)
        sequence = decoder.makeSequence()
        text = TextStream(folder.tokenizer, after: prompt, stops: stops)
        self.sampler = sampler
        left = maxTokens
        for token in tokens { logits = decoder.step([sequence], tokens: [token])[0] }
    }

    /// The next piece of text, never empty; nil at the end. Throws where the model's output is not finite.
    public mutating func next() throws -> String? {
        while left > 0 {
            let token = try sampler.next(logits)
            let piece = text.append(token)
            left = text.isStopped ? 0 : left - 1
            if left > 0 { logits = decoder.step([sequence], tokens: [token])[0] }
            if !piece.isEmpty { return piece }
        }
        let rest = text.finish()
        return rest.isEmpty ? nil : rest
    }
}
