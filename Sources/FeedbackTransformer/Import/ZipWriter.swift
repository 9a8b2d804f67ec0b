import Foundation

/// Writes a zip archive as PyTorch does: entries stored as they are, their bytes at multiples of 64; Zip64 throughout.
package struct ZipWriter {
    private let handle: FileHandle
    private var offset = 0
    private var directory: [UInt8] = []
    private var count = 0

    package init(_ handle: FileHandle) { self.handle = handle }

    package mutating func add(_ name: String, _ bytes: [UInt8]) throws {
        var checksum = Checksum()
        checksum.add(bytes)
        // Version 4.5; the name is UTF-8; stored; no time; the first of January 1980. Sizes have no room here.
        var common = little((45, 2), (0x0800, 2), (0, 2), (0, 2), (0x21, 2), (Int(checksum.value), 4))
        common += little((0xffff_ffff, 4), (0xffff_ffff, 4), (name.utf8.count, 2))
        let begin = offset + 30 + name.utf8.count + 20 + 4
        let padding = (64 - begin % 64) % 64
        var header = little((0x0403_4b50, 4)) + common + little((24 + padding, 2)) + name.utf8
        header += little((1, 2), (16, 2), (bytes.count, 8), (bytes.count, 8), (0x4246, 2), (padding, 2))
        header += Array(repeating: UInt8(ascii: "Z"), count: padding)
        directory += little((0x0201_4b50, 4), (45, 2)) + common
        directory += little((28, 2), (0, 2), (0, 2), (0, 2), (0, 4), (0xffff_ffff, 4)) + name.utf8
        directory += little((1, 2), (24, 2), (bytes.count, 8), (bytes.count, 8), (offset, 8))
        try handle.write(contentsOf: Data(header))
        try handle.write(contentsOf: Data(bytes))
        offset += header.count + bytes.count
        count += 1
    }

    package func finish() throws {
        var end = little((0x0606_4b50, 4), (44, 8), (45, 2), (45, 2), (0, 4), (0, 4), (count, 8), (count, 8))
        end += little((directory.count, 8), (offset, 8))
        end += little((0x0706_4b50, 4), (0, 4), (offset + directory.count, 8), (1, 4))
        end += little((0x0605_4b50, 4), (0, 4), (0xffff, 2), (0xffff, 2), (0xffff_ffff, 4), (0xffff_ffff, 4), (0, 2))
        try handle.write(contentsOf: Data(directory + end))
    }
}

/// Numbers, each in so many bytes.
func little(_ fields: (number: Int, bytes: Int)...) -> [UInt8] {
    fields.flatMap { number, bytes in (0..<bytes).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) } }
}
