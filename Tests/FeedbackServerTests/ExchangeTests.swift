import Foundation
import Testing

@testable import FeedbackServer

/// HTTP as old, careless and hostile clients speak it.
@Suite struct ExchangeTests {
    private func text(_ client: Client, _ request: String) async throws -> String {
        String(decoding: try await client.exchange(Array(request.utf8)), as: UTF8.self)
    }

    /// A client of HTTP/1.0 knows neither chunks nor 100 Continue, and an answer's end by that of the connection.
    @Test func oldClientsUnderstandTheirAnswers() async throws {
        try await serve { client in
            let whole = try await text(client, "GET /health HTTP/1.0\r\n\r\n")
            #expect(whole.hasPrefix("HTTP/1.0 200 OK\r\n") && whole.hasSuffix(#"{"status":"ok"}"#), "\(whole)")
            let body = #"{"model":"tiny","prompt":"a","max_tokens":3,"stream":true,"temperature":0}"#
            let stream = try await text(
                client,
                "POST /v1/completions HTTP/1.0\r\nExpect: 100-continue\r\nConnection: keep-alive\r\n"
                    + "Content-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)")
            let answer = try Answer(Array(stream.utf8))
            #expect(stream.hasPrefix("HTTP/1.0 200 OK\r\n") && answer.headers["transfer-encoding"] == nil, "\(stream)")
            #expect(answer.headers["connection"] == "close" && answer.chunks.count == 4)
            #expect(answer.text.hasPrefix("data: {") && answer.text.hasSuffix("data: [DONE]\n\n"))
        }
    }

    /// Requests one after the other, sent at once, are answered in order, up to the one that asks to close.
    @Test func theLastRequestCloses() async throws {
        try await serve { client in
            let get = "GET /health HTTP/1.1\r\nHost: localhost\r\n"
            let post = "POST /v1/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
            let answers = try await text(
                client, "\(get)\r\n\(post)\(get)\r\n\(get)Connection: Close\r\n\r\n\(get)\r\n")
            let statuses = answers.matches(of: /HTTP\/1.1 (\d+)/).map { Int($0.1)! }
            #expect(statuses == [200, 404, 200, 200], "\(answers)")
            #expect(answers.components(separatedBy: "connection: close").count == 2)
        }
    }

    private static let ambiguous: [(String, Int, String)] = [
        ("Host: localhost\r\nHost: localhost\r\n", 400, "one Host"), ("", 400, "one Host"),
        ("Host: localhost\r\nTransfer-Encoding: gzip, chunked\r\n", 501, "gzip, chunked"),
        ("Host: localhost\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 501, "gzip, chunked"),
        ("Host: localhost\r\nTransfer-Encoding: gzip\r\n", 400, "gzip"),
    ]

    /// What two readers could take for two different requests is taken by none.
    @Test(arguments: ambiguous) func ambiguousRequestsAreRefused(fields: String, status: Int, words: String)
        async throws
    {
        try await serve { client in
            let answer = try await client.send(
                Array("GET /health HTTP/1.1\r\nConnection: close\r\n\(fields)\r\n0\r\n\r\n".utf8))
            #expect(
                answer.status == status && answer.error?["message"]?.text?.contains(words) == true, "\(answer.text)")
        }
    }

    private static let refused: [([String: String], String, Int)] = [
        (["Content-Length": "400000000"], "/v1/completions", 401), (["Content-Length": "400000000"], "/nothing", 404),
        (["Content-Length": "400000000", "Authorization": "Bearer secret"], "/v1/completions", 413),
        (["Transfer-Encoding": "chunked", "Authorization": "Bearer secret"], "/v1/completions", 413),
    ]

    /// A body that is not wanted is not read, however long it is, and the client learns why.
    @Test(arguments: refused) func refusedBodiesAreNotRead(headers: [String: String], path: String, status: Int)
        async throws
    {
        try await serve(options: settings { $0.apiKey = "secret" }) { client in
            let port = client.port
            let (sent, bytes) = try await blocking {
                let socket = try Socket(port: port)
                let fields = headers.merging(["Host": "localhost", "Content-Type": "application/json"]) { $1 }
                    .map { "\($0): \($1)\r\n" }.joined()
                try socket.write(Array("POST \(path) HTTP/1.1\r\n\(fields)\r\n".utf8))
                let piece = Array("10000\r\n".utf8) + Array(repeating: 0x20, count: 0x10000) + Array("\r\n".utf8)
                var sent = 0
                while sent < 400_000_000, (try? socket.write(piece)) != nil { sent += piece.count }
                return (sent, try socket.receive { (try? Answer($0))?.error != nil })
            }
            // Most of it lies in the buffers of the system.
            #expect(sent < 50_000_000)
            let answer = try Answer(bytes)
            #expect(answer.status == status && answer.headers["connection"] == "close", "\(answer.text)")
        }
    }

    /// A request comes within a bounded time, in however small pieces.
    @Test(arguments: ["", "\r\n"]) func slowRequestsAreCutOff(headEnd: String) async throws {
        let options = settings { options in
            if headEnd.isEmpty { options.idleTime = .seconds(1) } else { options.bodyTime = .seconds(1) }
        }
        try await serve(options: options) { client in
            let port = client.port
            let start = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            let bytes = try await blocking { () -> [UInt8] in
                let socket = try Socket(port: port)
                try socket.write(Array("\(start)Content-Length: 1000\r\n\(headEnd)".utf8))
                var number = 0
                while number < 36_000, (try? socket.write([0x61])) != nil {
                    Thread.sleep(forTimeInterval: 0.1)
                    number += 1
                }
                #expect(number < 36_000)
                return (try? socket.receive { (try? Answer($0))?.error != nil }) ?? []
            }
            // A head that never ends has nobody who waits for an answer.
            if headEnd.isEmpty { return #expect(bytes.isEmpty) }
            let answer = try Answer(bytes)
            #expect(answer.status == 408 && answer.error?["message"]?.text?.contains("within 1 seconds") == true)
            #expect(try await client.get("/health").status == 200)
        }
    }
}
