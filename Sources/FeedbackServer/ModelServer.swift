import FeedbackEngine
import FeedbackRuns
import FeedbackTransformer
import Foundation
import HTTPTypes
import HummingbirdCore
import Logging
import NIOCore
import NIOPosix
import Synchronization

/// Serves models through OpenAI's completions interface, and the history of runs as a dashboard.
///
/// ```swift
/// let server = ModelServer(models: ["demo": try ModelFolder(contentsOf: folder)])
/// try await server.run { address in print("listening on \(address)") }
/// ```
public final class ModelServer: Sendable {
    public struct Options: Sendable {
        public var host = "127.0.0.1"
        /// 0 takes a free one.
        public var port = 8080
        /// Continuations that each model generates at a time.
        public var batch = 64
        /// Continuations that wait for a place; more are refused.
        public var queue = 256
        /// Tokens that a prompt, and a continuation, may have at most.
        public var maxTokens = 4096
        /// What a client must present to use a model; nil lets everyone.
        public var apiKey: String?
        /// Names by which the server may be called besides its own, where its address is this machine's alone.
        public var hosts: [String] = []
        /// Origins whose pages may use it in a browser, such as https://example.org; * for all.
        public var origins: [String] = []
        /// What computes.
        public var backend: any Backend = CPUBackend()
        /// How long a request's body may take to arrive.
        var bodyTime = TimeAmount.seconds(60)
        /// How long its head may, and how long a connection may say nothing.
        var idleTime = TimeAmount.seconds(120)
        /// What `stop` waits for requests to finish, before it cuts them off.
        public var drainTime = Duration.seconds(30)

        public init() {}
    }

    private let options: Options
    private let responder: Responder
    private let stopping = AsyncStream<Void>.makeStream()
    /// Whether the time for what is under way has passed.
    private let over = Atomic(false)

    /// Throws where the backend cannot compute a model.
    ///
    /// - Parameters:
    ///   - models: by the names that requests call them by.
    ///   - history: what the dashboard shows; without one there is none.
    ///   - options: address, limits, and who may ask.
    public init(models: [String: ModelFolder], history: RunStore? = nil, options: Options = Options()) throws {
        self.options = options
        var limits = CompletionLimits()
        limits.tokens = options.maxTokens
        limits.choices = min(limits.choices, options.batch + options.queue)
        let decoding = DecodingLoop.Options(backend: options.backend, batch: options.batch, queue: options.queue)
        let served = try models.sorted { $0.key < $1.key }.map {
            try ServedModel($0.key, $0.value, decoding, limits)
        }
        responder = Responder(
            models: served,
            dashboard: history.map { Dashboard($0, options.backend) },
            limits: limits,
            apiKey: options.apiKey,
            doorkeeper: Doorkeeper(
                localHost: isLoopback(options.host) ? options.host : nil, hosts: options.hosts, origins: options.origins
            ))
    }

    /// Accepts requests until `stop` is called. Throws where the address cannot be had.
    ///
    /// - Parameter onListening: called with the address, like `http://127.0.0.1:8080`.
    public func run(onListening: @escaping @Sendable (String) -> Void = { _ in }) async throws {
        defer { responder.stop() }
        let (options, responder) = (options, responder)
        let isOver = { @Sendable [self] in over.load(ordering: .relaxed) }
        let server = Server(
            childChannelSetup: ExchangeChannel(
                http: HTTP1Channel(
                    responder: { request, writer, channel in
                        if request.headers[.expect]?.lowercased() == "100-continue" {
                            try await writer.writeInformationalHead(HTTPResponse(status: .continue))
                        }
                        let response = try await responder.respond(to: request, Connection.of(channel))
                        try await writer.write(response: response.head, body: response.body)
                    },
                    configuration: .init(
                        additionalChannelHandlers: [Connection(isOver: isOver)], idleTimeout: options.idleTime)),
                bodyTime: options.bodyTime),
            configuration: ServerConfiguration(
                address: .hostname(options.host, port: options.port), backlog: 1024,
                availableConnectionsDelegate: MaximumAvailableConnections(connectionLimit())),
            onServerRunning: { channel in
                let host = options.host.contains(":") ? "[\(options.host)]" : options.host
                onListening("http://\(host):\(channel.localAddress?.port ?? options.port)")
            }, eventLoopGroup: MultiThreadedEventLoopGroup.singleton,
            logger: Logger(label: "feedback", factory: { _ in SwiftLogNoOpLogHandler() }))
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                do {
                    try await server.run()
                } catch let error where !(error is CancellationError) {
                    let reason = (error as? IOError).map { String(cString: strerror($0.errnoCode)) } ?? "\(error)"
                    throw ServerError(
                        "cannot listen on \(options.host):\(options.port): \(reason); choose another --port or --host")
                }
            }
            group.addTask { [stopping] in
                for await _ in stopping.stream {}
                responder.drain()
                Task { try await server.shutdownGracefully() }
                try await Task.sleep(for: options.drainTime)
                responder.stop()
                // What has been cut off says so to its client; who does not listen is disconnected.
                try await Task.sleep(for: .seconds(1))
            }
            // Whichever ends first: all requests, or the time for them.
            try await group.next()
            over.store(true, ordering: .relaxed)
            group.cancelAll()
        }
    }

    /// Refuses new requests, lets those under way finish within the drain time, cuts off the others, and ends `run`.
    public func stop() { stopping.continuation.finish() }
}

/// Why a server cannot start, and what to do.
public struct ServerError: Error, Equatable, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
}

/// Whether only this machine can reach a host.
private func isLoopback(_ host: String) -> Bool {
    host == "localhost" || host == "::1" || host.hasPrefix("127.")
}

/// How many connections there is room for: at the limit of open files a server could accept no more, nor open anything. The
/// limit is raised to what the system allows.
private func connectionLimit() -> Int {
    var limit = rlimit()
    guard getrlimit(resource, &limit) == 0 else { return 512 }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = min(limit.rlim_max, 65536)
        setrlimit(resource, &limit)
        getrlimit(resource, &limit)
    }
    return max(16, Int(min(limit.rlim_cur, 65536)) - 128)
}

#if os(macOS)
    private let resource = RLIMIT_NOFILE
#else
    private let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
#endif
