import FeedbackTransformer
import Foundation

/// The tokens of a text that is too large for memory: encoded once, then read from the cache.
///
/// An entry is a folder, `tokens/KEY` in the cache, with `tokenizer.json`, `tokens.bin` (each token in one, two or four bytes) and
/// `text.json`, which says what text they are of. It belongs to the paths and the tokenizer, and holds as long as the files have
/// the sizes and times that they had.
struct TokenCache: Sendable {
    typealias Entry = (tokenizer: Tokenizer, tokens: Tokens)

    private let files: TextFiles
    private let folder: URL
    private let progress: @Sendable (CorpusProgress) -> Void

    init(_ files: TextFiles, in folder: URL, progress: @escaping @Sendable (CorpusProgress) -> Void) {
        self.files = files
        self.folder = folder
        self.progress = progress
    }

    private struct Description: Codable {
        var version = 1
        let files: [File]
        let count: Int
        /// SHA-256 of `tokens.bin`.
        let digest: String

        struct File: Codable, Equatable {
            let path: String
            let size: Int
            let modified: Double
        }
    }

    /// The tokens by the text's own vocabulary.
    func entry(_ kind: Tokenizer.Kind) throws -> Entry {
        try entry(key("\(kind)")) { try vocabulary(kind) }
    }

    /// The tokenizer of byte pairs whose merges are learned from the beginning of the text, a share of its bytes. It has an entry of
    /// its own, without tokens: those belong to what it is.
    func bytePairs(_ size: Int, share: Double) throws -> Tokenizer {
        try entry(key("bpe \(size) \(share)"), hasTokens: false) {
            // How large the text is, files do not say: not all of their bytes are of it.
            var (bytes, vocabulary) = (0, Vocabulary(.bpe, size: size))
            if share < 1 { try files.forEachPiece { piece, _ in bytes += piece.utf8.count } }
            var left = share < 1 ? Int(share * Double(bytes)) : .max
            try forEachPiece(.reading) { piece in
                vocabulary.add(left >= piece.utf8.count ? piece : piece.prefix(bytes: left))
                left = max(0, left - piece.utf8.count)
            }
            return try vocabulary.tokenizer()
        }.tokenizer
    }

    /// Gathers what occurs in the text.
    func add(to vocabulary: inout Vocabulary) throws { try forEachPiece(.reading) { vocabulary.add($0) } }

    /// The tokens by some tokenizer, which mostly is the text's own.
    func entry(_ tokenizer: Tokenizer) throws -> Entry {
        if tokenizer.kind == .bpe {
            return try entry(key("bpe \(String(decoding: try tokenizer.data(), as: UTF8.self))")) { tokenizer }
        }
        if let own = try open(key("\(tokenizer.kind)")), own.tokenizer == tokenizer { return own }
        let vocabulary = (0..<tokenizer.vocabularySize).map { "\(tokenizer.bytes(of: Int32($0)))" }
        return try entry(key("\(tokenizer.kind) \(vocabulary.joined())")) { tokenizer }
    }

    /// An entry, made first where it is not there.
    private func entry(
        _ key: String, hasTokens: Bool = true, _ tokenizer: () throws -> Tokenizer
    ) throws -> Entry {
        do {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        } catch {
            throw FileError("cannot create \(folder.path): \(reason(error)); $XDG_CACHE_HOME says where else")
        }
        // Of several that begin at once one does the work, and the others wait for it.
        let lock = try createFile(folder.appending(path: "\(key).lock"))
        flock(lock.fileDescriptor, LOCK_EX)
        if let entry = try open(key) { return entry }
        // What one that was killed has left.
        for name in (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        where name.hasPrefix(".\(key).") { try? FileManager.default.removeItem(at: folder.appending(path: name)) }
        try encode(try tokenizer(), into: folder.appending(path: key), hasTokens: hasTokens)
        guard let entry = try open(key) else {
            throw FileError("\(files.urls[0].path) has changed while it was read; begin again")
        }
        return entry
    }

    /// An entry that is there, whole, and of the text as it is now.
    private func open(_ key: String) throws -> Entry? {
        let entry = folder.appending(path: key)
        guard let data = try? readRegularFile(entry.appending(path: "text.json")),
            let description = try? JSONDecoder().decode(Description.self, from: data),
            description.version == 1, description.files == (try describe()),
            let tokenizer = try? Tokenizer(contentsOf: entry.appending(path: "tokenizer.json")),
            let file = try? RandomAccessFile(entry.appending(path: "tokens.bin")),
            let tokens = try? Tokens(
                file, count: description.count, vocabulary: tokenizer.vocabularySize, digest: description.digest)
        else { return nil }
        return (tokenizer, tokens)
    }

    private func describe() throws -> [Description.File] {
        try files.urls.map { url in
            let path = url.resolvingSymlinksInPath().path
            let attributes: [FileAttributeKey: Any]
            do { attributes = try FileManager.default.attributesOfItem(atPath: path) } catch {
                throw FileError("cannot read \(path): \(reason(error))")
            }
            return Description.File(
                path: path, size: (attributes[.size] as? NSNumber)?.intValue ?? 0,
                modified: (attributes[.modificationDate] as? Date)?.timeIntervalSinceReferenceDate ?? 0)
        }
    }

    private func key(_ tokenizer: String) -> String {
        let paths = files.urls.map { $0.resolvingSymlinksInPath().path }
        let hash = Digest.of(Array((paths + files.fields + [tokenizer]).joined(separator: "\0").utf8))
        return hash.prefix(12).hexadecimal
    }

    // MARK: Making an entry

    private func vocabulary(_ kind: Tokenizer.Kind) throws -> Tokenizer {
        var vocabulary = Vocabulary(kind)
        if kind != .bytes { try add(to: &vocabulary) }
        return try vocabulary.tokenizer()
    }

    private func encode(_ tokenizer: Tokenizer, into entry: URL, hasTokens: Bool) throws {
        let described = try describe()
        try writeFolder(entry) { folder in
            try tokenizer.write(to: folder.appending(path: "tokenizer.json"))
            let file = folder.appending(path: "tokens.bin")
            let handle = try createFile(file)
            func write(_ body: () throws -> Void) throws(FileError) {
                do { try body() } catch {
                    throw FileError("cannot write \(file.path): \(reason(error)); $XDG_CACHE_HOME says where else")
                }
            }
            let digest = Digest()
            var (count, position) = (0, 0)
            let encode = tokenizer.encoder()
            if hasTokens {
                try forEachPiece(.encoding) { piece in
                    let tokens: [Int32]
                    do { tokens = try encode(piece) } catch let error as TokenizerError {
                        throw error.moved(by: position)
                    }
                    let bytes = Tokens.bytes(tokens, vocabulary: tokenizer.vocabularySize)
                    digest.update(bytes)
                    try write { try handle.write(contentsOf: bytes) }
                    count += tokens.count
                    if tokenizer.kind != .bpe {
                        position += tokenizer.kind == .characters ? tokens.count : piece.unicodeScalars.count
                    }
                }
            }
            try write {
                try handle.synchronize()
                try handle.close()
            }
            let description = Description(files: described, count: count, digest: digest.finalize().hexadecimal)
            let text = try JSONEncoder().encode(description)
            try writeFile(folder.appending(path: "text.json")) { try $0.write(contentsOf: text) }
        }
    }

    private func forEachPiece(_ work: CorpusProgress.Work, _ body: (String) throws -> Void) throws {
        let start = ContinuousClock.now
        try files.forEachPiece { piece, done in
            try body(piece)
            progress(
                CorpusProgress(
                    work: work, done: done, total: files.size, seconds: (ContinuousClock.now - start) / .seconds(1)))
        }
    }
}
