/// Learns which pairs to merge: always the commonest, of equally common ones that of the lowest tokens, so that a text always gives
/// the same. Tokens are the 256 bytes, then what each merge makes.
///
/// Words are counted first. Then each merge changes the counts only where it occurs: of every pair the words are known that have
/// it, and a heap has the commonest.
struct BPETrainer {
    private var words = WordTable()
    /// By word.
    private var counts: [Int] = []
    /// A longer word is counted in parts: what is one word of a megabyte is no word to learn from, and would be gone through
    /// with each merge.
    private static let longest = 256

    /// Takes in a piece of text that ends where a word does.
    mutating func add(_ text: String) {
        let text = Array(text.utf8)
        var start = 0
        while start < text.count, words.bytes.count < WordTable.mostBytes - Self.longest {
            var end = WordSplit.gpt2.end(text, start, text.count)
            if end - start > Self.longest {
                end = start + Self.longest
                while text[end] & 0xc0 == 0x80 { end -= 1 }
            }
            let number = words.number(of: text, start, end)
            if number == counts.count { counts.append(1) } else { counts[number] += 1 }
            start = end
        }
    }

    /// A tokenizer of so many tokens; of fewer where no pair is left that occurs twice.
    func tokenizer(size: Int) -> BPETokenizer {
        var merger = Merger((0..<words.count).map { (words[$0], counts[$0]) })
        while merger.tokens.count < size, merger.merge() {}
        return BPETokenizer(tokens: merger.tokens, merges: merger.merges)
    }
}

private struct Merger {
    private(set) var tokens = (0..<256).map { [UInt8($0)] }
    private(set) var merges: [BPETokenizer.Merge] = []
    private var merged: Set<UInt64> = []
    private var known: [[UInt8]: Int32]
    /// By word.
    private var words: [[Int32]]
    private let counts: [Int]
    /// The numbers of the pairs, and by number how often each occurs, and in which words: some may have it no longer.
    private var numbers: [UInt64: Int] = [:]
    private var pairCounts: [Int] = []
    private var pairWords: [[Int32]] = []
    private var heap = Heap<Common>([])
    private var grown: Set<Int> = []
    private var pairs: [UInt64] = []

    private struct Common: Comparable {
        let count: Int
        let pair: UInt64

        static func < (a: Common, b: Common) -> Bool {
            a.count != b.count ? a.count > b.count : a.pair < b.pair
        }
    }

    init(_ counted: [(word: ArraySlice<UInt8>, count: Int)]) {
        known = Dictionary(uniqueKeysWithValues: tokens.enumerated().map { ($1, Int32($0)) })
        words = counted.map { $0.word.map(Int32.init) }
        counts = counted.map(\.count)
        for (word, tokens) in words.enumerated() {
            for (left, right) in zip(tokens, tokens.dropFirst()) { add(counts[word], left, right, word) }
        }
        heap = Heap(pairs.indices.map { Common(count: pairCounts[$0], pair: pairs[$0]) })
        grown = []
    }

    /// Makes the next merge; false where no pair occurs twice.
    mutating func merge() -> Bool {
        while let next = heap.popFirst(), next.count > 1 {
            guard let number = numbers[next.pair] else { continue }
            let count = pairCounts[number]
            if count == next.count {
                merge(next.pair, number)
                return true
            }
            // It has become rarer since it was noted.
            if count < next.count, count > 1 { heap.insert(Common(count: count, pair: next.pair)) }
        }
        return false
    }

    private mutating func merge(_ pair: UInt64, _ number: Int) {
        let (left, right) = (Int32(pair >> 32), Int32(pair & 0xffff_ffff))
        let text = tokens[Int(left)] + tokens[Int(right)]
        // Two pairs may make the same.
        let result = known[text] ?? Int32(tokens.count)
        if result == tokens.count {
            tokens.append(text)
            known[text] = result
        }
        // Where two pairs make the same, one that was merged may come again.
        if merged.insert(pair).inserted {
            merges.append(BPETokenizer.Merge(left: left, right: right, result: result))
        }
        let places = pairWords[number]
        pairWords[number] = []
        for word in places { merge(left, right, result, in: Int(word)) }
        for number in grown { heap.insert(Common(count: pairCounts[number], pair: pairs[number])) }
        grown.removeAll(keepingCapacity: true)
    }

    private mutating func merge(_ left: Int32, _ right: Int32, _ result: Int32, in word: Int) {
        let count = counts[word]
        var (old, kept) = (0, 0)
        let length = words[word].count
        while old < length {
            let token = words[word][old]
            if token == left, old + 1 < length, words[word][old + 1] == right {
                // The one before may itself be merged already.
                if kept > 0 {
                    let before = words[word][kept - 1]
                    add(-count, before, left, word)
                    add(count, before, result, word)
                }
                add(-count, left, right, word)
                if old + 2 < length {
                    let after = words[word][old + 2]
                    add(-count, right, after, word)
                    add(count, result, after, word)
                }
                words[word][kept] = result
                old += 2
            } else {
                words[word][kept] = token
                old += 1
            }
            kept += 1
        }
        words[word].removeLast(length - kept)
    }

    private mutating func add(_ count: Int, _ left: Int32, _ right: Int32, _ word: Int) {
        let pair = BPETokenizer.Merge.pair(left, right)
        let number: Int
        if let there = numbers[pair] {
            number = there
        } else {
            number = pairs.count
            numbers[pair] = number
            pairs.append(pair)
            pairCounts.append(0)
            pairWords.append([])
        }
        pairCounts[number] += count
        guard count > 0 else { return }
        if pairWords[number].last != Int32(word) { pairWords[number].append(Int32(word)) }
        grown.insert(number)
    }
}
