import Crypto
import FeedbackTransformer
import Foundation

/// The files of a text, one after the other, read a piece at a time.
struct TextFiles: Sendable {
    let urls: [URL]
    /// Of all, in bytes.
    let size: Int
    private let pieceSize: Int

    /// What a path means: a file, several with commas between them, or every file in a folder and below, by name. Throws where
    /// one of them is not there.
    init(_ path: String, pieceSize: Int = Self.pieceSize) throws {
        self.pieceSize = pieceSize
        var urls: [URL] = []
        for part in Self.parts(path) {
            var isFolder: ObjCBool = false
            guard FileManager.default.fileExists(atPath: part, isDirectory: &isFolder) else {
                throw CorpusError(
                    "there is no data set or file \(part); give a text file, or one of "
                        + (KnownCorpus.all.map(\.name) + TaskCorpus.all.map(\.name)).joined(separator: ", "))
            }
            urls += isFolder.boolValue ? try Self.files(in: URL(filePath: part)) : [URL(filePath: part)]
        }
        self.urls = urls
        size = try urls.reduce(0) { $0 + (try RandomAccessFile($1).size) }
    }

    /// A name with a comma in it that is there is one.
    private static func parts(_ path: String) -> [String] {
        FileManager.default.fileExists(atPath: path) ? [path] : path.split(separator: ",").map(String.init)
    }

    /// The same, from wherever it is looked at; what is not there stays as it is.
    static func absolute(_ path: String) -> String {
        let parts = parts(path)
        guard parts.allSatisfy(FileManager.default.fileExists(atPath:)) else { return path }
        return parts.map { URL(filePath: $0).standardizedFileURL.path }.joined(separator: ",")
    }

    /// Writes all that a stream has into a file of a folder, named by what is in it, and gives its path.
    static func keep(_ input: FileHandle, in folder: URL) throws -> String {
        let temporary = folder.appending(path: ".text.new-\(getpid())")
        var digest = SHA256()
        do {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            try writeFile(temporary) { file in
                while let piece = try input.read(upToCount: pieceSize), !piece.isEmpty {
                    digest.update(data: piece)
                    try file.write(contentsOf: piece)
                }
            }
        } catch {
            try? FileManager.default.removeItem(at: temporary)
            throw error is FileError ? error : FileError("cannot create \(folder.path): \(reason(error))")
        }
        let name = digest.finalize().prefix(12).map { String(format: "%02x", $0) }.joined()
        let file = folder.appending(path: "text-\(name).txt")
        guard rename(temporary.path, file.path) == 0 else {
            throw FileError("cannot write \(file.path): \(String(cString: strerror(errno)))")
        }
        return file.path
    }

    private static func files(in folder: URL) throws -> [URL] {
        let found = FileManager.default.enumerator(
            at: folder, includingPropertiesForKeys: [.isRegularFileKey], options: [.skipsHiddenFiles])
        let files = (found?.compactMap { $0 as? URL } ?? []).filter {
            (try? $0.resourceValues(forKeys: [.isRegularFileKey]).isRegularFile) == true
        }
        if files.isEmpty { throw CorpusError("there is no file in \(folder.path); give text files") }
        return files.sorted { $0.path < $1.path }
    }

    /// The bytes of a file that are read at once.
    private static let pieceSize = 4 << 20

    /// Calls with every piece of the text and the bytes read so far. A piece ends where a line does; in a line longer than a piece,
    /// where a word or at least a character does. Throws on what is not UTF-8.
    func forEachPiece(_ body: (_ piece: String, _ done: Int) throws -> Void) throws {
        var done = 0
        for url in urls {
            let file = try RandomAccessFile(url)
            var rest: ArraySlice<UInt8> = []
            var offset = 0
            repeat {
                let new = try file.bytes(offset..<min(offset + pieceSize, file.size))
                // A byte order mark says how a file is encoded, and is no character of its text.
                rest += offset == 0 && new.starts(with: [0xef, 0xbb, 0xbf]) ? new.dropFirst(3) : new[...]
                offset += new.count
                done += new.count
                let end = offset == file.size ? rest.endIndex : Self.end(of: rest)
                guard let piece = String(validating: rest[..<end], as: UTF8.self) else {
                    throw CorpusError(
                        "\(url.path) is not UTF-8 text; convert it first, for example with iconv -t utf-8")
                }
                rest = rest[end...]
                if !piece.isEmpty { try body(piece, done) }
            } while offset < file.size
        }
    }

    private static func end(of bytes: ArraySlice<UInt8>) -> Int {
        func isBreak(_ index: Int) -> Bool {
            // The space in `<br />`, which is one word break with what is around it, has a quote or a slash after it.
            let next = index + 1 < bytes.endIndex ? bytes[index + 1] : 0
            return bytes[index] == UInt8(ascii: " ") && next != UInt8(ascii: "/") && next != UInt8(ascii: "\"")
        }
        if let line = bytes.lastIndex(of: UInt8(ascii: "\n")) ?? bytes.indices.last(where: isBreak) { return line + 1 }
        return bytes.lastIndex { $0 & 0xc0 != 0x80 } ?? bytes.endIndex
    }
}
