import Dispatch
import Foundation
import Synchronization

/// Turns the first Ctrl-C, request to terminate, closed terminal or warning of a batch system (SIGUSR1, or SIGUSR2, which Open
/// MPI's mpirun hands on) into a wish to stop; the second stops at once. What comes with the first is no second: `timeout` and a
/// terminal signal a process and then its group. A reader of the output that goes away ends nothing.
final class Interruption: Sendable {
    private let received = Atomic<Int32>(0)
    /// When it came.
    private let moment = Mutex<ContinuousClock.Instant?>(nil)

    /// The signal that asked to stop, if one has.
    var signal: Int32? {
        let signal = received.load(ordering: .relaxed)
        return signal == 0 ? nil : signal
    }

    /// The exit status that tells of a signal: 128 and its number, so 130 for an interruption, 143 for a termination.
    var exitStatus: Int32? { signal.map { 128 + $0 } }

    /// - Parameter notice: called at the first signal.
    init(notice: @escaping @Sendable () -> Void) {
        // A queue of its own gets a thread of its own: with one core, work keeps the only one of the global queues.
        let queue = DispatchQueue(label: "interruption")
        _ = Foundation.signal(SIGPIPE, SIG_IGN)
        for number in [SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2] {
            let before = Foundation.signal(number, SIG_IGN)
            // Under nohup a closed terminal means nothing.
            if number == SIGHUP && unsafeBitCast(before, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self) {
                continue
            }
            let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
            source.setEventHandler { [self] in
                let earlier = moment.withLock { moment in
                    defer { moment = moment ?? .now }
                    return moment
                }
                guard let earlier else {
                    received.store(number, ordering: .relaxed)
                    return notice()
                }
                if ContinuousClock.now - earlier > .milliseconds(200) { _exit(128 + number) }
            }
            source.activate()
            // The source lives as long as the program.
            _ = Unmanaged.passRetained(source as AnyObject)
        }
    }
}
