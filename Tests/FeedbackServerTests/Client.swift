import FeedbackTransformer
import Foundation

@testable import FeedbackServer

/// Runs what blocks on a thread of its own: the threads that async functions share are the server's too.
func blocking<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        Thread { continuation.resume(with: Result { try body() }) }.start()
    }
}

struct SocketError: Error {
    let what: String
    let code = errno
}

/// A connection to the server, byte by byte.
final class Socket: Sendable {
    private let descriptor: Int32

    init(port: Int) throws {
        #if os(Linux)
            descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        #else
            descriptor = socket(AF_INET, SOCK_STREAM, 0)
        #endif
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let size = socklen_t(MemoryLayout<sockaddr_in>.size)
        var limit = timeval(tv_sec: 3600, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, size) }
        }
        guard result == 0 else { throw SocketError(what: "connect") }
    }
    deinit { close(descriptor) }

    func write(_ bytes: [UInt8]) throws {
        #if os(Linux)
            let flags = Int32(MSG_NOSIGNAL)
        #else
            let flags: Int32 = 0
        #endif
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, flags) }
            guard count > 0 else { throw SocketError(what: "send") }
            sent += count
        }
    }

    /// Sends no more.
    func finish() throws {
        guard shutdown(descriptor, Int32(SHUT_WR)) == 0 else { throw SocketError(what: "shutdown") }
    }

    /// What has come; empty where the other side has closed.
    func receiveSome() throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        let count = recv(descriptor, &bytes, bytes.count, 0)
        guard count >= 0 else { throw SocketError(what: "receive") }
        return Array(bytes.prefix(count))
    }

    /// All that comes until the other side closes, or `isEnough`.
    func receive(until isEnough: ([UInt8]) -> Bool = { _ in false }) throws -> [UInt8] {
        var all: [UInt8] = []
        while !isEnough(all) {
            let more = try receiveSome()
            if more.isEmpty { break }
            all += more
        }
        return all
    }
}

/// A response.
struct Answer: Sendable {
    let status: Int
    /// By lower-case name.
    let headers: [String: String]
    let body: [UInt8]

    /// Throws where it is no HTTP.
    init(_ bytes: [UInt8]) throws {
        guard let end = bytes.firstRange(of: Array("\r\n\r\n".utf8)) else {
            throw SocketError(what: "no head in \(String(decoding: bytes.prefix(200), as: UTF8.self))")
        }
        let lines = String(decoding: bytes[..<end.lowerBound], as: UTF8.self).components(separatedBy: "\r\n")
        guard lines[0].hasPrefix("HTTP/1."), let status = Int(lines[0].split(separator: " ")[1]) else {
            throw SocketError(what: "no status in \(lines[0])")
        }
        self.status = status
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            headers[parts[0].lowercased()] = parts[1].trimmingCharacters(in: .whitespaces)
        }
        self.headers = headers
        var rest = bytes[end.upperBound...]
        guard headers["transfer-encoding"] == "chunked" else {
            body = Array(rest)
            return
        }
        var body: [UInt8] = []
        while let line = rest.firstIndex(of: 10), let size = Int(Self.text(rest[..<line]), radix: 16), size > 0 {
            body += rest[(line + 1)...].prefix(size)
            rest = rest[(line + 1)...].dropFirst(size + 2)
        }
        self.body = body
    }

    private static func text(_ bytes: ArraySlice<UInt8>) -> String {
        String(decoding: bytes, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }

    var text: String { String(decoding: body, as: UTF8.self) }
    var json: JSON { (try? JSON(parsing: body)) ?? .null }
    var error: JSON? { json["error"] }
    /// The data of the events of a stream.
    var events: [String] {
        text.components(separatedBy: "\n\n").filter { $0.hasPrefix("data: ") }.map { String($0.dropFirst(6)) }
    }
    /// The chunks of a completion's stream, without the last line.
    var chunks: [JSON] { events.dropLast().map { (try? JSON(parsing: Array($0.utf8))) ?? .null } }
}

struct Client: Sendable {
    let port: Int

    static func bytes(_ method: String, _ path: String, _ headers: [String: String] = [:], _ body: [UInt8] = [])
        -> [UInt8]
    {
        var head = "\(method) \(path) HTTP/1.1\r\n"
        let all = ["Host": "localhost", "Connection": "close", "Content-Length": "\(body.count)"]
            .merging(headers) { $1 }
        for (name, value) in all.sorted(by: { $0.key < $1.key }) { head += "\(name): \(value)\r\n" }
        return Array((head + "\r\n").utf8) + body
    }

    /// All that the server says to these bytes until it closes.
    ///
    /// - Parameter isAll: whether the server sees that nothing follows them.
    func exchange(_ bytes: [UInt8], isAll: Bool = false) async throws -> [UInt8] {
        try await blocking {
            let socket = try Socket(port: port)
            try socket.write(bytes)
            if isAll { try socket.finish() }
            return try socket.receive()
        }
    }

    func send(_ bytes: [UInt8]) async throws -> Answer { try Answer(try await exchange(bytes)) }

    func get(_ path: String, _ headers: [String: String] = [:]) async throws -> Answer {
        try await send(Self.bytes("GET", path, headers))
    }

    func post(_ path: String, _ body: JSON, _ headers: [String: String] = [:]) async throws -> Answer {
        try await send(Self.bytes("POST", path, headers, body.bytes))
    }

    func complete(_ body: JSON) async throws -> Answer { try await post("/v1/completions", body) }

    /// A value of `/metrics`.
    func metric(_ name: String) async throws -> Int { Self.metric(name, in: try await get("/metrics").text) }

    static func metric(_ name: String, in text: String) -> Int {
        let lines = text.split(separator: "\n")
        let value = lines.first { $0.hasPrefix(name + "{") || $0.hasPrefix(name + " ") }?.split(separator: " ").last
        return value.flatMap { Int($0) } ?? -1
    }

    /// Waits until `/metrics` is as wanted; whether it has come to be so. What is counted is answers, ten minutes of them at
    /// least: where other tests keep all threads, an answer takes as long as what is waited for.
    private func wait(_ isRight: (String) -> Bool) async throws -> Bool {
        for _ in 0..<60_000 {
            if isRight(try await get("/metrics").text) { return true }
            try await Task.sleep(for: .milliseconds(10))
        }
        return false
    }

    func wait(_ name: String, _ isRight: (Int) -> Bool) async throws -> Bool {
        try await wait { isRight(Self.metric(name, in: $0)) }
    }

    /// Waits until so many continuations run and wait, at one moment.
    func wait(running: Int, waiting: Int) async throws -> Bool {
        try await wait {
            Self.metric("feedback_running_sequences", in: $0) == running
                && Self.metric("feedback_queue_depth", in: $0) == waiting
        }
    }
}
