/// Continues a prompt, piece by piece, as the model's text comes.
///
/// ```swift
/// let folder = try ModelFolder(contentsOf: URL(filePath: "model"))
/// var generator = try TextGenerator(
///     folder, on: CPUBackend(), prompt: "ROMEO:", maxTokens: 200, sampler: Sampler(temperature: 0.8))
/// while let piece = try generator.next() { print(piece, terminator: "") }
/// ```
public struct TextGenerator {
    private let session: any DecodingSession
    private let sequence: any DecodingSequence
    private var sampler: Sampler
    private var text: TextStream
    /// Tokens still to come.
    private var left: Int
    private var logits: [Float] = []

    /// - Parameters:
    ///   - folder: the model and its tokenizer.
    ///   - backend: what computes.
    ///   - prompt: what to continue; at least one token, all in the vocabulary.
    ///   - maxTokens: how many tokens to generate at most.
    ///   - sampler: what chooses each token.
    ///   - stops: texts that end the generation; they are not part of it.
    ///   - memoryWindow: the memories a step sees; as many as in training where nil.
    public init(
        _ folder: ModelFolder, on backend: any Backend, prompt: String, maxTokens: Int, sampler: Sampler,
        stops: [String] = [], memoryWindow: Int? = nil
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
        session = try backend.decoding(folder.model, memoryWindow: window)
        sequence = session.makeSequence()
        text = TextStream(folder.tokenizer, after: prompt, stops: stops)
        self.sampler = sampler
        left = maxTokens
        for token in tokens { logits = session.step([sequence], tokens: [token])[0] }
    }

    /// The next piece of text, never empty; nil at the end. Throws where the model's output is not finite.
    public mutating func next() throws -> String? {
        while left > 0 {
            let token = try sampler.next(logits)
            let piece = text.append(token)
            left = text.isStopped ? 0 : left - 1
            if left > 0 { logits = session.step([sequence], tokens: [token])[0] }
            if !piece.isEmpty { return piece }
        }
        let rest = text.finish()
        return rest.isEmpty ? nil : rest
    }
}
