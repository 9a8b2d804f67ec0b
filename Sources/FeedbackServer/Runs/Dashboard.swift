import Dispatch
import FeedbackRuns
import FeedbackTransformer
import Foundation
import HTTPTypes
import HummingbirdCore
import NIOCore
import Synchronization

/// The history of runs as a page, and as what the page reads.
final class Dashboard: Sendable {
    private let reader: RunReader
    /// Streams of events that are open.
    private let streams = Atomic(0)
    private static let mostStreams = 1000
    /// Where their events are read: what the history takes is taken from no other request.
    private let queue = DispatchQueue(label: "events", qos: .utility)
    private let attention: AttentionReader
    private let stopped = Atomic(false)

    init(_ store: RunStore, _ backend: any Backend) {
        reader = RunReader(store)
        attention = AttentionReader(backend)
    }

    /// Ends the streams of events.
    func stop() { stopped.store(true, ordering: .relaxed) }

    /// - Parameter parts: the path's.
    func answer(_ request: Request, _ parts: [String], _ connection: Connection) async throws -> Response {
        guard parts.first == "api" else { return try file(request) }
        switch parts.count {
        case 2 where parts[1] == "runs":
            try allow([.get], request)
            return Response(json: try reader.runs())
        case 2 where parts[1] == "events":
            try allow([.get], request)
            return try events(request, connection)
        case 3 where parts[1] == "runs":
            try allow([.get], request)
            return Response(json: try reader.detail(try reader.run(parts[2])))
        case 4 where parts[1] == "runs" && parts[3] == "attention":
            try allow([.post], request)
            let run = try reader.run(parts[2])
            let body = try await request.json(upTo: 1 << 16)
            return try await attention.answer(body, run, connection)
        default: throw APIError.noPage(request.uri.path)
        }
    }

    private func file(_ request: Request) throws(APIError) -> Response {
        guard let file = DashboardFile.all[request.uri.path] else { throw .noPage(request.uri.path) }
        try allow([.get], request)
        return Response(
            type: file.type, file.bytes,
            headers: [
                .cacheControl: "no-cache", .contentSecurityPolicy: DashboardFile.policy,
                HTTPField.Name("Referrer-Policy")!: "no-referrer",
            ])
    }

    // MARK: Events

    private func events(_ request: Request, _ connection: Connection) throws(APIError) -> Response {
        let query = request.uri.queryParameters
        let events = try RunEvents(reader, query["runs"].map(String.init), query["after"].map(String.init))
        guard streams.load(ordering: .relaxed) < Self.mostStreams else {
            throw APIError(
                status: .serviceUnavailable,
                message: "\(Self.mostStreams) streams of events are open, the most allowed",
                code: "queue_full", headers: [.retryAfter: "10"])
        }
        return Response(
            status: .ok,
            headers: [.contentType: "text/event-stream", .cacheControl: "no-cache", .xContentTypeOptions: "nosniff"],
            body: ResponseBody { [self] writer in
                streams.add(1, ordering: .relaxed)
                defer { streams.subtract(1, ordering: .relaxed) }
                var events = events
                var silence = ContinuousClock.now
                while !connection.isClosed && !stopped.load(ordering: .relaxed) {
                    let news: [UInt8]
                    (events, news) = try await queue.result { [events] in
                        var events = events
                        let news = try events.next()
                        return (events, news)
                    }
                    if !news.isEmpty || ContinuousClock.now - silence >= .seconds(10) {
                        try await writer.write(ByteBuffer(bytes: news.isEmpty ? Array(": \n\n".utf8) : news))
                        silence = .now
                    }
                    try await Task.sleep(for: .milliseconds(500))
                }
                try await writer.finish(nil)
            })
    }
}

extension DispatchQueue {
    /// What a body gives that runs here: who waits for it keeps no thread.
    func result<Value: Sendable>(of body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            self.async { continuation.resume(with: Result { try body() }) }
        }
    }
}
