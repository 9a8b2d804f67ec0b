import FeedbackTransformer

/// Damages inputs as accidents and attackers do: the same random source, the same damage.
struct Mutator {
    /// What there is to damage, and to take parts from.
    let corpus: [[UInt8]]
    var random: RandomSource

    /// One of the inputs, damaged once, or up to four times: one that is damaged much is mostly refused by the first check.
    mutating func next() -> [UInt8] {
        var input = corpus[random.below(corpus.count)]
        for _ in 0...random.below(1 + random.below(4)) where !input.isEmpty { input = damage(input) }
        return input
    }

    /// Of a file that begins with its header's length, mostly the header, whose length is then right: or hardly any damage
    /// would be seen beyond the first check.
    private mutating func damage(_ input: [UInt8]) -> [UInt8] {
        let length = input.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard input.count > 8, 1...UInt64(input.count - 8) ~= length, random.below(4) > 0 else { return alter(input) }
        let header = alter(Array(input[8..<8 + Int(length)]))
        return bytes(UInt64(header.count)) + header + input[(8 + Int(length))...]
    }

    private mutating func alter(_ input: [UInt8]) -> [UInt8] {
        var input = input
        let other = corpus[random.below(corpus.count)]
        let (part, place) = (part(of: input), random.below(input.count))
        switch random.below(16) {
        case 0: input[place] ^= 1 << UInt8(random.below(8))
        case 1: input[place] = Self.signs[random.below(Self.signs.count)]
        case 2: input.removeSubrange(part)
        case 3: input.insert(contentsOf: input[part], at: place)
        case 4: input.removeSubrange(place...)
        case 5: input = Array(input[..<place] + other[random.below(other.count + 1)...])
        case 6: input.insert(contentsOf: other[self.part(of: other)], at: place)
        case 7, 12, 13, 14: replace(Self.isDigit, in: &input) { Self.extremes[$0.random.below(Self.extremes.count)] }
        case 8, 15: replace(Self.isLetter, in: &input) { $0.word(of: other) }
        case 9:  // many times
            let copy = Array(input[part])
            let count = min(1 << random.below(17), (1 << 17) / max(1, copy.count))
            input.insert(contentsOf: repeatElement(copy, count: count).joined(), at: part.lowerBound)
        case 10:  // deep
            let (opening, closing) = Self.nests[random.below(Self.nests.count)]
            let count = 1 << random.below(15)
            let isClosed = random.below(2) == 0
            replace(Self.isLetter, in: &input) { _ in
                Array(repeatElement(opening.utf8, count: count).joined())
                    + (isClosed ? Array(repeatElement(closing.utf8, count: count).joined()) : [])
            }
        default:  // a length, or another number in binary
            let number = [
                0, 1, 7, 0x7fff_ffff, 0xffff_ffff, 1 << 40, .max >> 1, .max, UInt64(input.count), UInt64(place),
            ][random.below(10)]
            let start = random.below(2) * place
            for (index, byte) in bytes(number).enumerated() where start + index < input.count {
                input[start + index] = byte
            }
        }
        return input
    }

    // MARK: Parts

    /// Up to 128 bytes, mostly fewer.
    private mutating func part(of input: [UInt8]) -> Range<Int> {
        let start = random.below(input.count + 1)
        return start..<min(input.count, start + 1 << random.below(8))
    }

    /// Puts something else in the place of a number or a word, where there is one.
    private mutating func replace(
        _ isPart: (UInt8) -> Bool, in input: inout [UInt8], by new: (inout Mutator) -> [UInt8]
    ) {
        let runs = Self.runs(of: isPart, in: input)
        if !runs.isEmpty { input.replaceSubrange(runs[random.below(runs.count)], with: new(&self)) }
    }

    private mutating func word(of input: [UInt8]) -> [UInt8] {
        let words = Self.runs(of: Self.isLetter, in: input)
        return words.isEmpty ? [] : Array(input[words[random.below(words.count)]])
    }

    private static func runs(of isPart: (UInt8) -> Bool, in input: [UInt8]) -> [Range<Int>] {
        var runs: [Range<Int>] = []
        for (index, byte) in input.enumerated() where isPart(byte) {
            if let last = runs.last, last.upperBound == index {
                runs[runs.count - 1] = last.lowerBound..<index + 1
            } else {
                runs.append(index..<index + 1)
            }
        }
        return runs
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
    private static func isLetter(_ byte: UInt8) -> Bool {
        (0x61...0x7a).contains(byte | 0x20) || isDigit(byte) || byte == 0x5f || byte == 0x2d
    }

    private func bytes(_ number: UInt64) -> [UInt8] { withUnsafeBytes(of: number.littleEndian) { Array($0) } }

    private static let signs =
        Array("{}[]()\",:;\\/0-+e.&*%!|>?#'\r\n\t \u{0}\u{1b}\u{7f}é\u{feff}".utf8) + [0xff, 0xc0]
    private static let nests = [("[", "]"), ("{\"a\":", "}"), ("{", "}"), ("[{\"a\":", "}]"), ("- ", ""), ("? ", "")]
    private static let extremes = [
        "0", "-1", "1", "00", "255", "65536", "1000000", "2147483647", "2147483648", "4294967296", "9007199254740993",
        "9223372036854775807", "9223372036854775808", "-9223372036854775808", "18446744073709551616",
        "99999999999999999999999999999999999999999", "0.5", "-0.0", "1e308", "1e999", "1e-400", "NaN", "inf", "0x10",
        "",
    ].map { Array($0.utf8) }
}
