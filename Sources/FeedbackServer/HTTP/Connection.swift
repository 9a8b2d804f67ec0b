import NIOCore
import NIOHTTP1
import Synchronization

/// The end of a channel's pipeline: tells when the client has gone, which a response that takes long must know. A client that
/// closes its sending side counts as gone.
final class Connection: ChannelInboundHandler, RemovableChannelHandler, Sendable {
    typealias InboundIn = Any
    typealias InboundOut = Any

    private enum State: Sendable {
        case open((@Sendable () -> Void)?)
        case closed
    }
    private let state = Mutex(State.open(nil))

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

    /// A head that is no HTTP is answered by 400 where the error is the parser's; those found later, in its fields, get the
    /// same answer.
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        let isTransport = error is IOError || error is ChannelError
        context.fireErrorCaught(isTransport || error is HTTPParserError ? error : HTTPParserError.unknown)
    }
}
