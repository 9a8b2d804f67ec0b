import NIOCore
import NIOHTTP1
import Synchronization

/// Between a channel and its requests: tells when the client has gone, which a response that takes long must know, and closes
/// only when what has been answered is written. A client that closes its sending side counts as gone.
final class Connection: ChannelDuplexHandler, RemovableChannelHandler, Sendable {
    typealias InboundIn = Any
    typealias InboundOut = Any
    typealias OutboundIn = Any
    typealias OutboundOut = Any

    private enum State: Sendable {
        case open((@Sendable () -> Void)?)
        case closed
    }
    private let state = Mutex(State.open(nil))
    /// The last part of an answer, while it is being written or has been.
    private let lastPart = Mutex<EventLoopFuture<Void>?>(nil)
    /// Whether the server waits for nobody any more.
    private let isOver: @Sendable () -> Bool

    init(isOver: @escaping @Sendable () -> Bool) { self.isOver = isOver }

    /// That of a channel.
    static func of(_ channel: any Channel) async throws -> Connection {
        try await channel.eventLoop.submit {
            try channel.pipeline.syncOperations.handler(type: Connection.self)
        }.get()
    }

    /// - Parameter action: called once when the client goes; at once if it has. In place of the last request's.
    func whenClosed(_ action: @escaping @Sendable () -> Void) {
        let isClosed = state.withLock { state in
            if case .closed = state { return true }
            state = .open(action)
            return false
        }
        if isClosed { action() }
    }

    var isClosed: Bool { state.withLock { if case .closed = $0 { true } else { false } } }

    private func close() {
        let action: (@Sendable () -> Void)? = state.withLock { state in
            defer { state = .closed }
            return if case .open(let action) = state { action } else { nil }
        }
        action?()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case ChannelEvent.inputClosed = event { close() }
        context.fireUserInboundEventTriggered(event)
    }

    func channelInactive(context: ChannelHandlerContext) {
        close()
        context.fireChannelInactive()
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let promise = promise ?? context.eventLoop.makePromise()
        lastPart.withLock { $0 = promise.futureResult }
        context.write(data, promise: promise)
    }

    /// A channel that is closed drops what its socket has not taken yet. So this waits until it has; half a minute at most.
    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        guard mode == .all, let last = lastPart.withLock({ $0 }) else {
            return context.close(mode: mode, promise: promise)
        }
        let (context, start) = (NIOLoopBound(context, eventLoop: context.eventLoop), ContinuousClock.now)
        let written = context.value.eventLoop.makePromise(of: Void.self)
        let check = context.value.eventLoop.scheduleRepeatedTask(
            initialDelay: .milliseconds(100), delay: .milliseconds(100)
        ) { [isOver] _ in
            if isOver() || ContinuousClock.now - start > .seconds(30) { written.succeed() }
        }
        last.whenComplete { _ in written.succeed() }
        written.futureResult.whenComplete { _ in
            check.cancel()
            context.value.close(mode: .all, promise: promise)
        }
    }

    /// A head that is no HTTP is answered by 400 where the error is the parser's; those found later, in its fields, get the
    /// same answer.
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        let isOther = error is IOError || error is ChannelError || error is APIError
        context.fireErrorCaught(isOther || error is HTTPParserError ? error : HTTPParserError.unknown)
    }
}
