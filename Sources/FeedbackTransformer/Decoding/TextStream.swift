/// Turns tokens, as they come, into text: whole characters only, and up to a stop.
///
/// What may yet turn out to be the beginning of a stop, or of a character, is held back until that is clear.
public struct TextStream: Sendable {
    private let tokenizer: Tokenizer
    private let stops: [[UInt8]]
    /// What stands between the text so far and the next token.
    private var separator: String
    private var held: [UInt8] = []
    /// How many bytes, of the tokens and what stands between them, have become text.
    public private(set) var bytesGiven = 0
    /// Whether a stop has come. Then there is no more text.
    public private(set) var isStopped = false

    /// - Parameters:
    ///   - tokenizer: what the tokens are of.
    ///   - prompt: the text before.
    ///   - stops: texts that end it, none empty; they are not part of it. Of several that end at once the longest counts.
    public init(_ tokenizer: Tokenizer, after prompt: String, stops: [String] = []) {
        precondition(!stops.contains(""))
        self.tokenizer = tokenizer
        self.stops = stops.map { Array($0.utf8) }
        separator = tokenizer.separator(after: prompt)
    }

    /// Adds a token; the text that is certain by now, which may be empty.
    public mutating func append(_ token: Int32) -> String {
        if isStopped { return "" }
        let bytes = separator.utf8 + tokenizer.bytes(of: token)
        separator = tokenizer.separator
        for byte in bytes {
            held.append(byte)
            guard let stop = stops.filter(held.ends(with:)).max(by: { $0.count < $1.count }) else { continue }
            isStopped = true
            return take(held.count - stop.count)
        }
        let starts = stops.map { stop in (0..<stop.count).last { held.ends(with: stop.prefix($0)) }! }
        return take(held.count - max(starts.max() ?? 0, incompleteCharacter))
    }

    /// What was held back, where no more tokens come.
    public mutating func finish() -> String { isStopped ? "" : take(held.count) }

    /// The bytes at the end of `held` that are the beginning of a character.
    private var incompleteCharacter: Int {
        for (index, byte) in held.suffix(3).reversed().enumerated() where byte & 0xc0 != 0x80 {
            let length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1
            return length > index + 1 ? index + 1 : 0
        }
        return 0
    }

    private mutating func take(_ count: Int) -> String {
        let text = String(decoding: held.prefix(count), as: UTF8.self)
        held.removeFirst(count)
        bytesGiven += count
        return text
    }
}

extension Array where Element: Equatable {
    func ends(with suffix: some Collection<Element>) -> Bool {
        count >= suffix.count && self.suffix(suffix.count).elementsEqual(suffix)
    }
}
