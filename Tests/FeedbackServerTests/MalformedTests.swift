import FeedbackTransformer
import Foundation
import Testing

@testable import FeedbackServer

/// Nonsense is refused, and hurts nobody.
@Suite struct MalformedTests {
    private static let body =
        #"{"model":"tiny","prompt":["abc",[1,2]],"max_tokens":3,"stop":["é😀"],"stream_options":{}}"#

    @Test func malformedBodiesAreRefused() async throws {
        try await serve { client in
            var random = RandomSource(seed: 11)
            for number in 0..<300 {
                let mutated = mutate(Array(Self.body.utf8), &random)
                let answer = try await client.send(Client.bytes("POST", "/v1/completions", [:], mutated))
                #expect(
                    (400..<500).contains(answer.status) && answer.error?["message"] != nil,
                    "number \(number): \(answer.status) for \(String(decoding: mutated, as: UTF8.self))")
            }
            #expect(try await client.complete(["model": "tiny", "prompt": "a"]).status == 200)
        }
    }

    /// What a message repeats of a request has an end, and no lines.
    @Test func refusalsAreOneShortLine() async throws {
        try await serve { client in
            let name = "a\n\u{1b}[31m" + String(repeating: "x", count: 20_000)
            let answer = try await client.complete(["model": "tiny", "prompt": "a", name: 1])
            for member in ["message", "param"] {
                let text = try #require(answer.error?[member]?.text)
                #expect(text.contains("a  [31mxxx") && text.count < 1010 && !text.contains(where: \.isNewline))
            }
        }
    }

    @Test func malformedRequestsAreRefused() async throws {
        try await serve { client in
            var random = RandomSource(seed: 12)
            let valid = Client.bytes("POST", "/v1/completions", [:], Array(Self.body.utf8))
            for number in 0..<300 {
                let request = mutate(valid, &random)
                let port = client.port
                let bytes = try await blocking { () -> [UInt8] in
                    let socket = try Socket(port: port)
                    try socket.write(request)
                    // What is incomplete is complete now.
                    try socket.finish()
                    // A refusal may come before all has been read; then the connection is reset.
                    return (try? socket.receive()) ?? []
                }
                if bytes.isEmpty { continue }
                let status = try Answer(bytes).status
                #expect((400..<500).contains(status), "\(number): \(String(decoding: request, as: UTF8.self))")
            }
            #expect(try await client.complete(["model": "tiny", "prompt": "a"]).status == 200)
        }
    }

    @Test(arguments: [
        "GARBAGE\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n", "GET  / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "GET / HTTP/1.1\r\n: empty\r\n\r\n", "G\u{1}T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\u{0} HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: nonsense\r\n\r\n",
        "GET /\(String(repeating: "a", count: 200_000)) HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nA: \(String(repeating: "a", count: 200_000))\r\n\r\n",
        "GET % HTTP/1.1\r\nHost: a\r\n\r\n", "GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    ]) func badHeadsAreRefused(request: String) async throws {
        try await serve { client in
            let status = try Answer(try await client.exchange(Array(request.utf8), isAll: true)).status
            #expect((400..<500).contains(status), "\(status)")
            #expect(try await client.get("/health").status == 200)
        }
    }

    /// Some bytes changed, taken out, repeated or put in.
    private func mutate(_ bytes: [UInt8], _ random: inout RandomSource) -> [UInt8] {
        var bytes = bytes
        for _ in 0...random.below(4) {
            let at = random.below(bytes.count)
            switch random.below(5) {
            case 0: bytes[at] = UInt8(random.below(256))
            case 1: bytes.removeSubrange(at..<min(bytes.count, at + 1 + random.below(8)))
            case 2: bytes.insert(contentsOf: bytes[at..<min(bytes.count, at + 1 + random.below(8))], at: at)
            case 3: bytes.insert(Array(#"{}[]",:\0-e."#.utf8)[random.below(12)], at: at)
            default: bytes.removeSubrange(at...)
            }
            if bytes.isEmpty { bytes = [0x7b] }
        }
        return bytes
    }
}
