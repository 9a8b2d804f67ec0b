import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1

/// HTTP/1 as Hummingbird speaks it, with what it leaves open.
struct ExchangeChannel: ServerChildChannel {
    let http: HTTP1Channel
    /// How long a request's body may take to arrive.
    let bodyTime: TimeAmount

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<HTTP1Channel.Value> {
        http.setup(channel: channel, logger: logger).flatMapThrowing { value in
            let pipeline = channel.pipeline.syncOperations
            let decoder = try pipeline.handler(type: ByteToMessageHandler<HTTPRequestDecoder>.self)
            try pipeline.addHandler(Exchanges(bodyTime: bodyTime), position: .after(decoder))
            return value
        }
    }

    func handle(value: HTTP1Channel.Value, logger: Logger) async { await http.handle(value: value, logger: logger) }
}

/// The requests of a connection and their answers, next to the wire. An answer to HTTP/1.0 comes as such a client reads it; a
/// body arrives in a bounded time; and where an answer comes before all of its request, the rest is not read: the connection
/// closes.
final class Exchanges: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    private struct Exchange {
        let isOld: Bool
        /// Whether the connection closes after it.
        var isLast: Bool
    }
    /// Requests that have begun to arrive and whose answers have not ended, in order.
    private var open: [Exchange] = []
    /// Whether there is more to come of the last of them.
    private var isArriving = false
    private let bodyTime: TimeAmount
    private var deadline: Scheduled<Void>?
    private var isClosing = false
    /// A client that still sends is read from so often after its answer: who is cut off at once may lose the answer too.
    private var readsLeft = 16

    init(bodyTime: TimeAmount) { self.bodyTime = bodyTime }

    func handlerRemoved(context: ChannelHandlerContext) { deadline?.cancel() }

    // MARK: Requests

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if isClosing { return }
        switch unwrapInboundIn(data) {
        case .head(var head):
            let isOld = head.version.minor == 0
            open.append(Exchange(isOld: isOld, isLast: isOld || !head.isKeepAlive))
            isArriving = true
            startDeadline(context)
            if isOld {
                // Nor does it know of these: it need not name a host, and takes no informational answers.
                if !head.headers.contains(name: "host") { head.headers.add(name: "host", value: "localhost") }
                head.headers.remove(name: "expect")
            }
            context.fireChannelRead(wrapInboundOut(.head(head)))
        case .body:
            context.fireChannelRead(data)
        case .end:
            isArriving = false
            deadline?.cancel()
            context.fireChannelRead(data)
        }
    }

    /// Of the request that is being answered: what is sent ahead waits for its turn.
    private func startDeadline(_ context: ChannelHandlerContext) {
        guard isArriving, open.count == 1 else { return }
        deadline = context.eventLoop.assumeIsolated().scheduleTask(in: bodyTime) { [bodyTime] in
            context.fireErrorCaught(APIError.tooSlow(bodyTime))
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if !isClosing { context.fireErrorCaught(error) }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        if isClosing && readsLeft > 0 {
            readsLeft -= 1
            context.read()
        }
        context.fireChannelReadComplete()
    }

    func read(context: ChannelHandlerContext) {
        if !isClosing { context.read() }
    }

    // MARK: Answers

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        if isClosing {
            promise?.fail(ChannelError.outputClosed)
            return
        }
        switch unwrapOutboundIn(data) {
        case .head(var head) where head.status.code >= 200:
            // What is no HTTP is answered too, without a request.
            if open.isEmpty { open.append(Exchange(isOld: false, isLast: true)) }
            if open.count == 1 && isArriving {
                open[0].isLast = true
                deadline?.cancel()
            }
            if open[0].isOld { head.version = .http1_0 }
            if open[0].isLast { head.headers.replaceOrAdd(name: "connection", value: "close") }
            context.write(wrapOutboundOut(.head(head)), promise: promise)
        case .end where open.removeFirst().isLast:
            isClosing = true
            let written = promise ?? context.eventLoop.makePromise()
            written.futureResult.assumeIsolated().whenComplete { _ in self.close(context) }
            context.write(data, promise: written)
        case .end:
            context.write(data, promise: promise)
            startDeadline(context)
        case .head, .body:
            context.write(data, promise: promise)
        }
    }

    /// Ends the sending side, which Hummingbird does where nothing more comes in, and after a moment the other.
    private func close(_ context: ChannelHandlerContext) {
        context.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        context.read()
        context.eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(500)) {
            context.channel.close(promise: nil)
        }
    }
}
