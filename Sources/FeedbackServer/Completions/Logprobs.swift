import FeedbackTransformer
import Foundation

/// A token's log-probability, and those of the likeliest in its place.
struct TokenLogprob: Sendable {
    let text: String
    /// nil for a text's first token: nothing comes before it.
    let logprob: Double?
    /// nil where none were asked for.
    let top: [(text: String, logprob: Double)]?
    /// Where it begins in the text given, in Unicode scalars.
    var offset = 0
}

extension [TokenLogprob] {
    /// OpenAI's four lists.
    var json: JSON {
        [
            "tokens": .array(map { .string($0.text) }), "token_logprobs": .array(map { JSON($0.logprob) }),
            "top_logprobs": contains { $0.top != nil }
                ? .array(
                    map { token in
                        guard let top = token.top else { return .null }
                        return .object(top.map { JSON.Member(name: $0.text, value: .number($0.logprob)) })
                    }) : .null,
            "text_offset": .array(map { .integer($0.offset) }),
        ]
    }
}

/// A token's log-probability and the likeliest tokens in its place, to a millionth: all that is kept of its logits.
struct LikelyTokens: Sendable {
    let logprob: Double
    /// nil where none are asked for.
    let top: [(token: Int32, logprob: Double)]?

    /// - Parameter count: how many of the likeliest are told, and the token itself.
    init(_ token: Int32, _ logits: [Float], count: Int) {
        let largest = Double(logits.max() ?? 0)
        let total = largest + log(logits.reduce(0) { $0 + exp(Double($1) - largest) })
        func logprob(_ token: Int32) -> Double { ((Double(logits[Int(token)]) - total) * 1e6).rounded() / 1e6 }
        var top: [Int32] = []
        for index in logits.indices where count > 0 {
            let place = top.firstIndex { logits[Int($0)] < logits[index] } ?? top.count
            if place < count {
                top.insert(Int32(index), at: place)
                if top.count > count { top.removeLast() }
            }
        }
        if !top.contains(token) { top.append(token) }
        self.logprob = logprob(token)
        self.top = count == 0 ? nil : top.map { ($0, logprob($0)) }
    }
}

/// Keeps the log-probabilities of a continuation's tokens until their text is given: what is held back, and what a stop
/// cuts off, is not told.
struct LogprobRecord {
    private let tokenizer: Tokenizer
    private var separator = ""
    /// Tokens whose text has not been given, and where their bytes begin among `bytes`.
    private var held: [(token: TokenLogprob, start: Int)] = []
    /// Of the tokens, not given yet.
    private var bytes: [UInt8] = []
    /// Scalars given.
    private var given = 0

    init(_ tokenizer: Tokenizer) { self.tokenizer = tokenizer }

    /// Where the text before the next token ends in this.
    mutating func follow(_ text: String) { separator = tokenizer.separator(after: text) }

    /// - Parameter likely: what it was chosen from; nil for a text's first token.
    mutating func append(_ token: Int32, _ likely: LikelyTokens?) {
        held.append((told(token, likely), bytes.count))
        bytes += separator.utf8 + tokenizer.bytes(of: token)
        separator = tokenizer.separator
    }

    /// The tokens that begin within the next so many bytes, which have been given as text.
    mutating func take(_ count: Int) -> [TokenLogprob] {
        let positions = scalarPositions(bytes.prefix(count))
        let tokens = held.prefix { $0.start < count }.map { token, start in
            var token = token
            token.offset = given + positions.starts[start]
            return token
        }
        held.removeFirst(tokens.count)
        for index in held.indices { held[index].start -= count }
        bytes.removeFirst(count)
        given += positions.count
        return tokens
    }

    private func told(_ token: Int32, _ likely: LikelyTokens?) -> TokenLogprob {
        func text(_ token: Int32) -> String {
            let bytes = separator.utf8 + tokenizer.bytes(of: token)
            // As OpenAI writes a token that is no text by itself.
            return String(validating: bytes, as: UTF8.self)
                ?? "bytes:" + bytes.map { String(format: "\\x%02x", $0) }.joined()
        }
        return TokenLogprob(
            text: text(token), logprob: likely?.logprob, top: likely?.top?.map { (text($0.token), $0.logprob) })
    }
}

/// For each byte, the number of the scalar that it belongs to, and how many scalars there are. A part that is no UTF-8
/// counts as the one U+FFFD that stands for it in a text.
private func scalarPositions(_ bytes: ArraySlice<UInt8>) -> (starts: [Int], count: Int) {
    var parser = Unicode.UTF8.ForwardParser()
    var iterator = bytes.makeIterator()
    var (starts, count): ([Int], Int) = ([], 0)
    while true {
        let length: Int
        switch parser.parseScalar(from: &iterator) {
        case .valid(let scalar): length = scalar.count
        case .error(let errorLength): length = errorLength
        case .emptyInput: return (starts, count)
        }
        starts += Array(repeating: count, count: length)
        count += 1
    }
}
