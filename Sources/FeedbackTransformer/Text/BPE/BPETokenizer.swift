/// Byte-level byte-pair encoding (Sennrich et al. 2016, Radford et al. 2019): a text is cut into words, each begins as its bytes,
/// and pairs of neighbours are merged, always the one whose merge was learned first, until none is left that was learned.
///
/// Every text can be encoded, and is what decoding gives back.
public struct BPETokenizer: Equatable, Sendable {
    /// Two neighbouring tokens, and the one that they become.
    public struct Merge: Equatable, Sendable {
        public let left, right, result: Int32

        var pair: UInt64 { Self.pair(left, right) }
        static func pair(_ left: Int32, _ right: Int32) -> UInt64 {
            UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
        }
    }

    /// The bytes by token.
    public let tokens: [[UInt8]]
    /// In the order in which they were learned.
    public let merges: [Merge]
    public let split: WordSplit
    /// Tokens that stand for their text wherever it occurs, before it is cut into words, such as `<|endoftext|>`.
    public let added: [Int32]
    /// The added tokens that mark something and are no text: those that `tokenizers` leaves out when it decodes.
    public let special: Set<Int32>
    /// Whether a word that is a token is that token, whatever merges make of it.
    public let takesWholeWords: Bool

    private let ranks: [UInt64: Rank]
    private struct Rank: Equatable {
        let rank, result: Int32
    }
    /// By byte.
    private let bytes: [Int32]
    private let wholeWords: [[UInt8]: Int32]
    /// The added tokens by their first byte, the longest first.
    private let addedByByte: [[Int32]]

    /// - Precondition: each of the 256 bytes is a token, no token is there twice, no pair is merged twice.
    init(
        tokens: [[UInt8]], merges: [Merge], split: WordSplit = .gpt2, added: [Int32] = [], special: Set<Int32> = [],
        takesWholeWords: Bool = false
    ) {
        (self.tokens, self.merges, self.split) = (tokens, merges, split)
        (self.added, self.special, self.takesWholeWords) = (added, special, takesWholeWords)
        ranks = Dictionary(
            uniqueKeysWithValues: merges.enumerated().map { ($1.pair, Rank(rank: Int32($0), result: $1.result)) })
        var bytes = [Int32](repeating: -1, count: 256)
        let isAdded = Set(added)
        for (token, text) in zip(Int32(0)..., tokens) where text.count == 1 && !isAdded.contains(token) {
            bytes[Int(text[0])] = token
        }
        precondition(!bytes.contains(-1), "a byte has no token")
        self.bytes = bytes
        wholeWords =
            takesWholeWords
            ? Dictionary(uniqueKeysWithValues: zip(tokens, 0...).filter { !isAdded.contains($1) }) : [:]
        var addedByByte = [[Int32]](repeating: [], count: 256)
        for token in added.sorted(by: { tokens[Int($0)].count > tokens[Int($1)].count }) {
            addedByByte[Int(tokens[Int(token)][0])].append(token)
        }
        self.addedByByte = addedByByte
    }

    func encode(_ text: String) -> [Int32] {
        var encoder = BPEEncoder(self)
        return encoder.encode(text)
    }

    /// The added token whose text begins at some place.
    fileprivate func added(in text: [UInt8], at start: Int) -> Int32? {
        addedByByte[Int(text[start])].first { text[start...].starts(with: tokens[Int($0)]) }
    }

    // MARK: Merging

    /// A word's length up to which the next pair is searched for; beyond, a heap has it.
    private static let short = 48

    /// Appends the tokens of a word.
    func encode(word text: [UInt8], _ start: Int, _ end: Int, into encoded: inout [Int32]) {
        if takesWholeWords, let token = wholeWords[Array(text[start..<end])] { return encoded.append(token) }
        let first = encoded.count
        for index in start..<end { encoded.append(bytes[Int(text[index])]) }
        if end - start > Self.short {
            let merged = merge(long: Array(encoded[first...]))
            encoded.replaceSubrange(first..., with: merged)
        } else {
            merge(short: &encoded, from: first)
        }
    }

    private func merge(short tokens: inout [Int32], from first: Int) {
        var pairs = (first..<max(first, tokens.count - 1)).map { ranks[Merge.pair(tokens[$0], tokens[$0 + 1])] }
        while true {
            var (best, at) = (Int32.max, -1)
            for (index, pair) in pairs.enumerated() {
                if let pair, pair.rank < best { (best, at) = (pair.rank, index) }
            }
            guard at >= 0, let merged = pairs[at] else { return }
            tokens[first + at] = merged.result
            tokens.remove(at: first + at + 1)
            pairs.remove(at: at)
            if at > 0 { pairs[at - 1] = ranks[Merge.pair(tokens[first + at - 1], merged.result)] }
            if at < pairs.count { pairs[at] = ranks[Merge.pair(merged.result, tokens[first + at + 1])] }
        }
    }

    private struct Candidate: Comparable {
        let rank: Int32
        let at: Int
        let pair: UInt64

        static func < (a: Candidate, b: Candidate) -> Bool { (a.rank, a.at) < (b.rank, b.at) }
    }

    private func merge(long word: [Int32]) -> [Int32] {
        var tokens = word
        // The neighbours that are left; a token that was merged into the one before is −1.
        var before = Array(-1..<tokens.count - 1)
        var after = Array(1...tokens.count)
        func candidate(_ at: Int) -> Candidate? {
            guard at >= 0, after[at] < tokens.count else { return nil }
            let pair = Merge.pair(tokens[at], tokens[after[at]])
            return ranks[pair].map { Candidate(rank: $0.rank, at: at, pair: pair) }
        }
        var heap = Heap(tokens.indices.compactMap(candidate))
        while let next = heap.popFirst() {
            let at = next.at
            guard tokens[at] >= 0, let now = candidate(at), now.pair == next.pair else { continue }
            let gone = after[at]
            tokens[at] = merges[Int(next.rank)].result
            tokens[gone] = -1
            after[at] = after[gone]
            if after[at] < tokens.count { before[after[at]] = at }
            for place in [before[at], at] {
                if let new = candidate(place) { heap.insert(new) }
            }
        }
        return tokens.filter { $0 >= 0 }
    }
}

/// Encodes one piece of text after the other, and remembers the words.
struct BPEEncoder {
    private let tokenizer: BPETokenizer
    private var words = WordTable()
    /// The tokens of the remembered words, one after the other, and where each word's begin.
    private var tokens: [Int32] = []
    private var starts = [0]
    /// Beyond, all is forgotten.
    private static let mostWords = 1 << 19
    /// Longer words hardly come again.
    private static let longest = 64

    init(_ tokenizer: BPETokenizer) { self.tokenizer = tokenizer }

    mutating func encode(_ text: String) -> [Int32] {
        let text = Array(text.utf8)
        var encoded: [Int32] = []
        encoded.reserveCapacity(text.count / 3)
        guard !tokenizer.added.isEmpty else {
            encode(text, 0, text.count, into: &encoded)
            return encoded
        }
        var (start, at) = (0, 0)
        while at < text.count {
            guard let token = tokenizer.added(in: text, at: at) else {
                at += 1
                continue
            }
            encode(text, start, at, into: &encoded)
            encoded.append(token)
            at += tokenizer.tokens[Int(token)].count
            start = at
        }
        encode(text, start, text.count, into: &encoded)
        return encoded
    }

    private mutating func encode(_ text: [UInt8], _ start: Int, _ limit: Int, into encoded: inout [Int32]) {
        var start = start
        while start < limit {
            let end = tokenizer.split.end(text, start, limit)
            if end - start == 1 || end - start > Self.longest {
                tokenizer.encode(word: text, start, end, into: &encoded)
            } else {
                if words.count > Self.mostWords { (words, tokens, starts) = (WordTable(), [], [0]) }
                let known = words.count
                let word = words.number(of: text, start, end)
                if word == known {
                    tokenizer.encode(word: text, start, end, into: &tokens)
                    starts.append(tokens.count)
                }
                for index in starts[word]..<starts[word + 1] { encoded.append(tokens[index]) }
            }
            start = end
        }
    }
}
