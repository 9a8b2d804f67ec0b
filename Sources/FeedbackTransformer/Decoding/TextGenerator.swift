import FeedbackEngine

/// Continues a prompt, piece by piece, as the model's text comes.
///
/// ```swift
/// let folder = try ModelFolder(contentsOf: URL(filePath: "model"))
/// var generator = try TextGenerator(folder, prompt: "ROMEO:", maxTokens: 200, sampler: Sampler(temperature: 0.8))
/// while let piece = try generator.next() { print(piece, terminator: "") }
/// ```
public struct TextGenerator {
    private let tokenizer: Tokenizer
    private let decoder: Decoder
    private let sequence: Decoder.Sequence
    private let stops: [[UInt8]]
    private var sampler: Sampler
    /// Tokens still to come.
    private var left: Int
    private var logits: [Float] = []
    /// What stands between the text so far and the next token.
    private var separator: String
    /// UTF-8 that has come but may be the beginning of a stop, or of a character.
    private var held: [UInt8] = []

    /// - Parameters:
    ///   - prompt: what to continue; at least one token, all in the vocabulary.
    ///   - stops: texts that end the generation; they are not part of it.
    ///   - memoryWindow: the memories a step sees; as many as in training where nil.
    ///   - precision, threads: as `Decoder`'s.
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
        tokenizer = folder.tokenizer
        decoder = Decoder(folder.model, memoryWindow: window, precision: precision, threads: threads)
        sequence = decoder.makeSequence()
        separator = prompt.unicodeScalars.last?.properties.isWhitespace == true ? "" : tokenizer.separator
        self.stops = stops.map { Array($0.utf8) }
        self.sampler = sampler
        left = maxTokens
        for token in tokens { logits = decoder.step([sequence], tokens: [token])[0] }
    }

    /// The next piece of text, never empty; nil at the end. Throws where the model's output is not finite.
    public mutating func next() throws -> String? {
        while left > 0 {
            let token = try sampler.next(logits)
            left -= 1
            held += separator.utf8 + tokenizer.bytes(of: token)
            separator = tokenizer.separator
            if stops.contains(where: held.ends(with:)) {
                let length = stops.filter(held.ends(with:)).map(\.count).max()!
                left = 0
                return take(held.count - length, dropping: length)
            }
            if left > 0 { logits = decoder.step([sequence], tokens: [token])[0] }
            let starts = stops.map { stop in (0..<stop.count).last { held.ends(with: stop.prefix($0)) }! }
            let undecided = max(starts.max() ?? 0, incompleteCharacter)
            if let text = take(held.count - undecided) { return text }
        }
        return take(held.count)
    }

    /// The bytes at the end of `held` that are the beginning of a character.
    private var incompleteCharacter: Int {
        for (index, byte) in held.suffix(3).reversed().enumerated() where byte & 0xc0 != 0x80 {
            let length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1
            return length > index + 1 ? index + 1 : 0
        }
        return 0
    }

    /// The first held bytes as text; nil where there are none.
    private mutating func take(_ count: Int, dropping dropped: Int = 0) -> String? {
        let text = String(decoding: held.prefix(count), as: UTF8.self)
        held.removeFirst(count + dropped)
        return text.isEmpty ? nil : text
    }
}

extension Array where Element: Equatable {
    func ends(with suffix: some Collection<Element>) -> Bool {
        count >= suffix.count && self.suffix(suffix.count).elementsEqual(suffix)
    }
}
