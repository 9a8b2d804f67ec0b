import FeedbackTransformer
import Foundation

/// The files of a text, one after the other, read a piece at a time.
struct TextFiles: Sendable {
    let urls: [URL]
    /// Of all, in bytes.
    let size: Int
    private let pieceSize: Int
    private let field: String

    /// What a path means: a file, several with commas between them, or every file in a folder and below, by name. Throws where
    /// one of them is not there.
    ///
    /// - Parameter field: the field of a line that has a text, in files of JSON lines; where nil, `text`.
    init(_ path: String, field: String? = nil, pieceSize: Int = Self.pieceSize) throws {
        self.pieceSize = pieceSize
        self.field = field ?? "text"
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
        guard !urls.isEmpty else { throw CorpusError("no data is named; give a text file, a folder or a data set") }
        self.urls = urls
        size = try urls.reduce(0) { size, url in
            if Self.isPipe(url) { throw CorpusError("\(url.path) is a pipe; give - and let it be standard input") }
            return size + (try RandomAccessFile(url).size)
        }
    }

    private static func isPipe(_ url: URL) -> Bool {
        var status = stat()
        return stat(url.path, &status) == 0 && status.st_mode & S_IFMT == S_IFIFO
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

    /// Writes all that standard input has into a file of a folder, named by what is in it, and gives its path. Throws where that
    /// is no text, and keeps nothing.
    static func keepStandardInput(in folder: URL) throws -> String {
        let temporary = folder.appending(path: ".text.new-\(getpid())")
        let digest = Digest()
        var isEmpty = true
        do {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            try writeFile(temporary) { file in
                while case let piece = try readStandardInput(pieceSize), !piece.isEmpty {
                    digest.update(piece)
                    isEmpty = false
                    try file.write(contentsOf: piece)
                }
            }
        } catch {
            try? FileManager.default.removeItem(at: temporary)
            throw error is FileError ? error : FileError("cannot create \(folder.path): \(reason(error))")
        }
        guard !isEmpty else {
            try? FileManager.default.removeItem(at: temporary)
            throw CorpusError("standard input is empty; give it a text")
        }
        let name = digest.finalize().prefix(12).hexadecimal
        let file = folder.appending(path: "text-\(name).txt")
        try moveFile(temporary, to: file)
        do { try TextFiles(file.path).forEachPiece { _, _ in } } catch {
            unlink(file.path)
            throw CorpusError("\(error)".replacing(file.path, with: "standard input"))
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

    private static func isJSONLines(_ url: URL) -> Bool {
        ["jsonl", "ndjson"].contains(url.pathExtension.lowercased())
    }

    /// The fields that the text is in: none where no file has any.
    var fields: [String] { urls.contains(where: Self.isJSONLines) ? [field] : [] }

    /// Calls with every piece of the text and the bytes read so far. A piece ends where a word does, whatever the tokenizer takes for
    /// one; where there is no such place, at least where a character does. Throws on what is not UTF-8.
    func forEachPiece(_ body: (_ piece: String, _ done: Int) throws -> Void) throws {
        var (done, rest): (Int, ArraySlice<UInt8>) = (0, [])
        for url in urls {
            let file = try RandomAccessFile(url)
            var lines = Self.isJSONLines(url) ? JSONLines(url.path, field: field) : nil
            let notText = CorpusError(
                "\(url.path) is not UTF-8 text; convert it first, for example with iconv -t utf-8")
            var offset = 0
            repeat {
                let read = try file.bytes(offset..<min(offset + pieceSize, file.size))
                // A byte order mark says how a file is encoded, and is no character of its text.
                let new = offset == 0 && read.starts(with: [0xef, 0xbb, 0xbf]) ? read.dropFirst(3) : read[...]
                offset += read.count
                done += read.count
                rest += try lines?.text(of: new, isEnd: offset == file.size)[...] ?? new
                let isWhole = offset == file.size
                if isWhole, String(validating: rest, as: UTF8.self) == nil { throw notText }
                let end =
                    isWhole && url == urls.last
                    ? rest.endIndex : Self.end(of: rest, orElseMiddle: rest.count >= pieceSize)
                guard let piece = String(validating: rest[..<end], as: UTF8.self) else { throw notText }
                rest = rest[end...]
                if !piece.isEmpty { try body(piece, done) }
            } while offset < file.size
        }
    }

    /// Where a piece may end: before a space that follows a word. White space as a whole is a word to some tokenizers, but for its
    /// last character, which goes with the next word; new lines go with punctuation before them.
    private static func end(of bytes: ArraySlice<UInt8>, orElseMiddle: Bool) -> Int {
        func isBreak(_ index: Int) -> Bool {
            guard index > bytes.startIndex, bytes[index] == UInt8(ascii: " ") || bytes[index] == UInt8(ascii: "\n")
            else { return false }
            var start = index - 1
            while start > bytes.startIndex, bytes[start] & 0xc0 == 0x80 { start -= 1 }
            guard let last = String(validating: bytes[start..<index], as: UTF8.self)?.unicodeScalars.first,
                !last.properties.isWhitespace
            else { return false }
            if bytes[index] == UInt8(ascii: "\n") {
                return last.properties.isAlphabetic && last.properties.generalCategory != .nonspacingMark
            }
            // The space in `<br />`, which is one word break with what is around it, has a quote or a slash after it.
            let next = index + 1 < bytes.endIndex ? bytes[index + 1] : UInt8(ascii: "/")
            return next != UInt8(ascii: "/") && next != UInt8(ascii: "\"")
        }
        if let end = bytes.indices.last(where: isBreak) { return end }
        guard orElseMiddle else { return bytes.startIndex }
        return bytes.lastIndex { $0 & 0xc0 != 0x80 } ?? bytes.endIndex
    }
}
