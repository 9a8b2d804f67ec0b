/// Continues a prompt, piece by piece, as the model's text comes.
///
/// ```swift
/// let folder = try ModelFolder(contentsOf: URL(filePath: "model"))
/// var generator = try TextGenerator(folder, prompt: "ROMEO:", maxTokens: 200, sampler: Sampler(temperature: 0.8))
/// while let piece = try generator.next() { print(piece, terminator: "") }
/// ```
public struct TextGenerator {
    private let tokenizer: CharacterTokenizer
    private let decoder: Decoder
    private let sequence: Decoder.Sequence
    private let stops: [[Unicode.Scalar]]
    private var sampler: Sampler
    /// Tokens still to come.
    private var left: Int
    private var logits: [Float] = []
    /// Text that has come but may be the beginning of a stop.
    private var held: [Unicode.Scalar] = []

    /// - Parameters:
    ///   - prompt: what to continue; at least one character, all in the vocabulary.
    ///   - stops: texts that end the generation; they are not part of it.
    ///   - memoryWindow: the memories a step sees; as many as in training where nil.
    public init(
        _ folder: ModelFolder, prompt: String, maxTokens: Int, sampler: Sampler, stops: [String] = [],
        memoryWindow: Int? = nil
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
        tokenizer = folder.tokenizer
        decoder = Decoder(folder.model, memoryWindow: window)
        sequence = decoder.makeSequence()
        self.stops = stops.map { Array($0.unicodeScalars) }
        self.sampler = sampler
        left = maxTokens
        for token in tokens { logits = decoder.step([sequence], tokens: [token])[0] }
    }

    /// The next piece of text, never empty; nil at the end. Throws where the model's output is not finite.
    public mutating func next() throws -> String? {
        while left > 0 {
            let token = try sampler.next(logits)
            left -= 1
            held.append(tokenizer.characters[Int(token)])
            if stops.contains(where: held.ends(with:)) {
                let length = stops.filter(held.ends(with:)).map(\.count).max()!
                left = 0
                return take(held.count - length, dropping: length)
            }
            if left > 0 { logits = decoder.step([sequence], tokens: [token])[0] }
            let undecided = stops.map { stop in (0..<stop.count).last { held.ends(with: stop.prefix($0)) }! }.max() ?? 0
            if let text = take(held.count - undecided) { return text }
        }
        return take(held.count)
    }

    /// The first held characters; nil where there are none.
    private mutating func take(_ count: Int, dropping dropped: Int = 0) -> String? {
        var text = String.UnicodeScalarView()
        text.append(contentsOf: held.prefix(count))
        held.removeFirst(count + dropped)
        return text.isEmpty ? nil : String(text)
    }
}

extension Array where Element: Equatable {
    func ends(with suffix: some Collection<Element>) -> Bool {
        count >= suffix.count && self.suffix(suffix.count).elementsEqual(suffix)
    }
}
