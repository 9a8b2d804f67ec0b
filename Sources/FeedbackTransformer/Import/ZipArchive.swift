import Foundation

// A zip archive as PyTorch writes it, read strictly:
//
//   entry …     local header | name | padding | bytes | perhaps a data descriptor
//   directory   a header for every entry: name, size, checksum, place
//   end         perhaps Zip64's record and its locator; the end record, with no comment
//
// What is compressed, encrypted, overlapping, outside the file or named as a path that leaves its folder is refused.

/// The entries of a zip archive, all stored as they are, with the right checksums.
struct ZipArchive {
    /// Where each entry's bytes lie in the file.
    private(set) var entries: [String: Range<Int>] = [:]

    static let directoryLimit = 16 << 20

    init(_ file: RandomAccessFile) throws {
        let (directory, count) = try Self.directory(of: file)
        guard directory.count <= Self.directoryLimit else { throw Malformed("its zip directory is too long") }
        let bytes = try file.bytes(directory)
        var (at, places): (Int, [Range<Int>]) = (0, [])
        for _ in 0..<count {
            let header = try DirectoryHeader(bytes, &at)
            let place = try header.place(in: file, before: directory.lowerBound)
            guard entries.updateValue(place.bytes, forKey: header.name) == nil else {
                throw Malformed("its zip has two entries \(header.name)")
            }
            places.append(place.all)
        }
        guard at == bytes.count else { throw Malformed("its zip directory has more than it says") }
        places.sort { $0.lowerBound < $1.lowerBound }
        for (place, next) in zip(places, places.dropFirst()) where place.upperBound > next.lowerBound {
            throw Malformed("its zip has entries that overlap")
        }
    }

    /// Where the directory is, and of how many entries.
    private static func directory(of file: RandomAccessFile) throws -> (Range<Int>, count: Int) {
        guard file.size >= 22 else { throw Malformed("its zip is cut off") }
        var end = file.size - 22
        let record = try file.bytes(end..<file.size)
        guard record.number(at: 0, 4) == 0x0605_4b50, record.number(at: 20, 2) == 0 else {
            throw Malformed("its zip is cut off, or something follows it")
        }
        let fields = [(4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4)]
        var numbers = fields.map { record.number(at: $0, $1) }
        if end >= 76, try file.bytes(end - 20..<end).number(at: 0, 4) == 0x0706_4b50 {
            let locator = try file.bytes(end - 20..<end)
            end -= 76
            let record = try file.bytes(end..<end + 56)
            guard locator.number(at: 8, 8) == end, record.number(at: 0, 4) == 0x0606_4b50, record.number(at: 4, 8) == 44
            else { throw Malformed("its zip has a damaged Zip64 record") }
            let long = [(16, 4), (20, 4), (24, 8), (32, 8), (40, 8), (48, 8)].map { record.number(at: $0, $1) }
            // The end record says the same, or all ones: programs differ in which they believe.
            for (index, number) in numbers.enumerated()
            where number != long[index] && number != 1 << (8 * fields[index].1) - 1 {
                throw Malformed("its zip has two ends that differ")
            }
            numbers = long
        }
        let (disk, directoryDisk, here, count) = (numbers[0], numbers[1], numbers[2], numbers[3])
        let (size, offset) = (numbers[4], numbers[5])
        guard disk == 0, directoryDisk == 0, here == count else { throw Malformed("its zip has several parts") }
        guard offset <= end, size == end - offset, count <= size / 46 else {
            throw Malformed("its zip has a directory that is not where it should be")
        }
        return (offset..<end, count)
    }
}

/// What the directory says of an entry.
private struct DirectoryHeader {
    let name: String
    private let checksum: Int
    private var size: Int
    private var offset: Int

    init(_ bytes: [UInt8], _ at: inout Int) throws(Malformed) {
        guard bytes.count - at >= 46, bytes.number(at: at, 4) == 0x0201_4b50 else {
            throw Malformed("its zip directory is damaged")
        }
        let (nameLength, extraLength) = (bytes.number(at: at + 28, 2), bytes.number(at: at + 30, 2))
        let (commentLength, start) = (bytes.number(at: at + 32, 2), at + 46)
        let next = start + nameLength + extraLength + commentLength
        guard next <= bytes.count else { throw Malformed("its zip directory is damaged") }
        guard let name = String(validating: bytes[start..<start + nameLength], as: UTF8.self), isPlain(path: name)
        else { throw Malformed("its zip has an entry with an impossible name") }
        self.name = name
        // Bit 3: sizes follow the bytes; 11: the name is UTF-8.
        guard bytes.number(at: at + 8, 2) & ~0x0808 == 0, bytes.number(at: at + 10, 2) == 0 else {
            throw Malformed("its zip has a compressed or encrypted entry \(name)")
        }
        // Of an entry that is marked as a folder PyTorch reads no bytes.
        guard bytes.number(at: at + 38, 1) & 0x10 == 0 else { throw Malformed("its zip has a folder \(name)") }
        checksum = bytes.number(at: at + 16, 4)
        size = bytes.number(at: at + 24, 4)
        offset = bytes.number(at: at + 42, 4)
        var stored = bytes.number(at: at + 20, 4)
        var extra = start + nameLength
        while extra + 4 <= start + nameLength + extraLength {
            let (id, end) = (bytes.number(at: extra, 2), extra + 4 + bytes.number(at: extra + 2, 2))
            guard end <= start + nameLength + extraLength else { throw Malformed("its zip directory is damaged") }
            if id == 1 {  // Zip64: of what has no room above, in this order
                var place = extra + 4
                func long(_ number: inout Int) throws(Malformed) {
                    guard number == 0xffff_ffff else { return }
                    guard place + 8 <= end else { throw Malformed("its zip directory is damaged") }
                    number = bytes.number(at: place, 8)
                    place += 8
                }
                try long(&size)
                try long(&stored)
                try long(&offset)
            }
            extra = end
        }
        guard stored == size else { throw Malformed("its zip has a compressed entry \(name)") }
        at = next
    }

    /// Where the entry and its bytes are; the bytes have been read once, for their checksum. It is 0 where the writer was asked
    /// for none.
    func place(in file: RandomAccessFile, before limit: Int) throws -> (all: Range<Int>, bytes: Range<Int>) {
        let damaged = Malformed("its zip has a damaged entry \(name)")
        guard offset <= limit - 30 else { throw damaged }
        let header = try file.bytes(offset..<offset + 30)
        let (nameLength, extraLength) = (header.number(at: 26, 2), header.number(at: 28, 2))
        let start = offset + 30 + nameLength + extraLength
        guard header.number(at: 0, 4) == 0x0403_4b50, header.number(at: 8, 2) == 0, start <= limit,
            size <= limit - start,
            try file.bytes(offset + 30..<offset + 30 + nameLength).elementsEqual(name.utf8)
        else { throw damaged }
        var sum = Checksum()
        for piece in stride(from: start, to: start + size, by: 1 << 20) where checksum != 0 {
            sum.add(try file.bytes(piece..<min(piece + 1 << 20, start + size)))
        }
        guard sum.value == checksum else { throw damaged }
        return (offset..<start + size, start..<start + size)
    }
}

/// Whether a path stays in its folder, whatever reads it.
func isPlain(path: String) -> Bool {
    !path.unicodeScalars.contains { $0.properties.generalCategory == .control || $0 == "\\" }
        && path.split(separator: "/", omittingEmptySubsequences: false).allSatisfy { !["", ".", ".."].contains($0) }
}

extension [UInt8] {
    /// A little-endian number of some bytes; one that is none on any disk is the largest.
    func number(at start: Int, _ count: Int) -> Int {
        var number: UInt64 = 0
        for index in 0..<count { number |= UInt64(self[start + index]) << UInt64(8 * index) }
        return Int(exactly: number) ?? .max
    }
}

/// CRC-32, as zip has it.
struct Checksum {
    private var remainder: UInt32 = .max
    var value: UInt32 { ~remainder }

    private static let table: [UInt32] = (0..<256).map { byte in
        (0..<8).reduce(UInt32(byte)) { remainder, _ in remainder >> 1 ^ (remainder & 1 == 0 ? 0 : 0xedb8_8320) }
    }

    mutating func add(_ bytes: [UInt8]) {
        let table = Self.table
        var remainder = remainder
        for byte in bytes { remainder = table[Int(UInt8(truncatingIfNeeded: remainder) ^ byte)] ^ remainder >> 8 }
        self.remainder = remainder
    }
}
