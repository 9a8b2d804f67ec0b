import FeedbackTransformer
import Foundation

#if canImport(FoundationNetworking)
    import FoundationNetworking
#endif

/// A text that is known by name, where it is found, and how it is recognised.
public struct KnownCorpus: Sendable {
    public let name: String
    public let summary: String
    public let bytes: Int
    let sha256: String
    let source: URL

    public static let tinyShakespeare = KnownCorpus(
        name: "tiny_shakespeare", summary: "40,000 lines of Shakespeare's plays, the char-rnn text", bytes: 1_115_394,
        sha256: "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        source: URL(
            string: "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt")!)

    public static let all = [tinyShakespeare]

    var fileName: String { "\(name).txt" }

    /// Where a downloaded copy is kept.
    public var cached: URL { cacheFolder.appending(path: fileName) }

    /// Where `$FEEDBACK_DATA_DIR` would have it.
    private var provided: URL? {
        ProcessInfo.processInfo.environment["FEEDBACK_DATA_DIR"].flatMap {
            $0.isEmpty ? nil : URL(filePath: $0).appending(path: fileName)
        }
    }

    /// The file on this machine, if there is one.
    public var local: URL? {
        [provided, cached].compactMap(\.self).first { FileManager.default.fileExists(atPath: $0.path) }
    }

    /// The text: from `$FEEDBACK_DATA_DIR`, else from the cache, else downloaded into the cache.
    ///
    /// - Parameter progress: called again and again during a download.
    public func load(progress: @escaping @Sendable (CorpusProgress) -> Void = { _ in }) async throws -> TextCorpus {
        if let provided, FileManager.default.fileExists(atPath: provided.path) {
            guard try isIntact(provided) else {
                throw CorpusError(
                    "\(provided.path) is not the text \(name) (its SHA-256 differs); replace it, "
                        + "or train on it as it is with --data \(provided.path)")
            }
            return try TextCorpus(path: provided.path, name: name)
        }
        if try !FileManager.default.fileExists(atPath: cached.path) || !isIntact(cached) {
            try await download(progress: progress)
        }
        return try TextCorpus(path: cached.path, name: name)
    }

    private func isIntact(_ file: URL) throws -> Bool { isIntact(try readRegularFile(file)) }

    private func isIntact(_ data: Data) -> Bool { Digest.of(data).hexadecimal == sha256 }

    /// Downloads the text to a temporary name, checks it, and only then gives it its own.
    private func download(progress: @escaping @Sendable (CorpusProgress) -> Void) async throws {
        let start = ContinuousClock.now
        let data: Data
        do {
            data = try await Download.data(from: source, limit: 2 * bytes) { [bytes] received in
                progress(
                    CorpusProgress(
                        work: .downloading, done: received, total: bytes,
                        seconds: (ContinuousClock.now - start) / .seconds(1)))
            }
        } catch {
            throw CorpusError(
                "cannot download \(name) from \(source): \(reason(error)). Put the text at \(cached.path), "
                    + "or give another with --data FILE")
        }
        guard isIntact(data) else {
            throw CorpusError(
                "the download of \(name) is damaged: \(data.count) bytes of \(bytes), and another SHA-256. Try again, "
                    + "or give a text with --data FILE")
        }
        let folder = cached.deletingLastPathComponent()
        do {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        } catch {
            throw FileError("cannot create \(folder.path): \(reason(error))")
        }
        let temporary = folder.appending(path: ".\(fileName).new-\(getpid())")
        try writeFile(temporary) { try $0.write(contentsOf: data) }
        try moveFile(temporary, to: cached)
    }
}

/// Receives one download, telling how far it is.
private final class Download: NSObject, URLSessionDataDelegate, @unchecked Sendable {
    private let progress: @Sendable (Int) -> Void
    private let limit: Int
    private let continuation: CheckedContinuation<Data, any Error>
    private var data = Data()

    private init(
        limit: Int, progress: @escaping @Sendable (Int) -> Void, continuation: CheckedContinuation<Data, any Error>
    ) {
        self.limit = limit
        self.progress = progress
        self.continuation = continuation
    }

    static func data(from source: URL, limit: Int, progress: @escaping @Sendable (Int) -> Void) async throws -> Data {
        try await withCheckedThrowingContinuation { continuation in
            let configuration = URLSessionConfiguration.ephemeral
            configuration.timeoutIntervalForRequest = 30
            let receiver = Download(limit: limit, progress: progress, continuation: continuation)
            let session = URLSession(configuration: configuration, delegate: receiver, delegateQueue: nil)
            session.dataTask(with: source).resume()
            session.finishTasksAndInvalidate()
        }
    }

    func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive new: Data) {
        data.append(new)
        if data.count > limit { dataTask.cancel() } else { progress(data.count) }
    }

    func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
        if let error {
            continuation.resume(throwing: error)
        } else if let response = task.response as? HTTPURLResponse, response.statusCode != 200 {
            continuation.resume(throwing: CorpusError("the server answered \(response.statusCode)"))
        } else {
            continuation.resume(returning: data)
        }
    }
}
