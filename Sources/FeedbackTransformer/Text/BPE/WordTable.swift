/// The different words of a text, numbered as they come. A hash table with open addressing whose words lie in one array, so that
/// to look one of a text's millions up allocates nothing.
struct WordTable {
    private struct Word {
        let start, length: Int32
        let hash: UInt32
    }
    private var words: [Word] = []
    private(set) var bytes: [UInt8] = []
    /// The numbers of words from 1, where their hashes lead; 0 where there is none. A power of two of them.
    private var slots = [Int32](repeating: 0, count: 1 << 10)
    private let seed = UInt64.random(in: .min ... .max)

    /// The words that fit.
    static let mostBytes = Int(Int32.max)

    var count: Int { words.count }

    /// The bytes of a word.
    subscript(word: Int) -> ArraySlice<UInt8> {
        let word = words[word]
        return bytes[Int(word.start)..<Int(word.start + word.length)]
    }

    /// The number of the word at some place in a text; `count` before it was new.
    mutating func number(of text: [UInt8], _ start: Int, _ end: Int) -> Int {
        var hash = seed
        for index in start..<end { hash = (hash ^ UInt64(text[index])) &* 0x100_0000_01b3 }
        hash ^= hash >> 32
        let short = UInt32(truncatingIfNeeded: hash)
        var slot = Int(short) & (slots.count - 1)
        while slots[slot] != 0 {
            let number = Int(slots[slot]) - 1
            if words[number].hash == short, isEqual(number, text, start, end) { return number }
            slot = (slot + 1) & (slots.count - 1)
        }
        words.append(Word(start: Int32(bytes.count), length: Int32(end - start), hash: short))
        bytes += text[start..<end]
        slots[slot] = Int32(words.count)
        if 2 * words.count > slots.count { grow() }
        return words.count - 1
    }

    private func isEqual(_ number: Int, _ text: [UInt8], _ start: Int, _ end: Int) -> Bool {
        let word = words[number]
        guard Int(word.length) == end - start else { return false }
        let offset = Int(word.start) - start
        for index in start..<end where bytes[index + offset] != text[index] { return false }
        return true
    }

    private mutating func grow() {
        var new = [Int32](repeating: 0, count: 2 * slots.count)
        for (number, word) in words.enumerated() {
            var slot = Int(word.hash) & (new.count - 1)
            while new[slot] != 0 { slot = (slot + 1) & (new.count - 1) }
            new[slot] = Int32(number + 1)
        }
        slots = new
    }
}
