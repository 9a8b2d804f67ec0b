import COneDNN
import Foundation
import Synchronization

/// Threads that each do their share of one job at a time.
///
/// `run` hands every worker the same closure with its own number and returns when all are done. Which worker does what
/// depends on the number alone, never on timing.
public final class WorkerPool: Sendable {
    public let count: Int
    private let workers: [Worker]

    /// One worker of number `index`: it sleeps on `start`, runs the job, and says so on `done`.
    private final class Worker: Sendable {
        let start = DispatchSemaphore(value: 0)
        let done = DispatchSemaphore(value: 0)
        let job = Mutex<(@Sendable () -> Void)?>(nil)

        init(number: Int) {
            let thread = Thread { [self] in
                onednn_use_one_thread()
                start.wait()
                while work() {
                    done.signal()
                    start.wait()
                }
            }
            thread.name = "feedback worker \(number)"
            thread.stackSize = 4 << 20
            thread.start()
        }

        /// Does the job and lets go of it; false where there is none and the pool is gone.
        private func work() -> Bool {
            guard let work = job.withLock({ $0.take() }) else { return false }
            work()
            return true
        }
    }

    /// A pool of one worker runs on the calling thread.
    public init(count: Int) {
        precondition(count > 0, "a pool needs a worker, not \(count)")
        self.count = count
        workers = count == 1 ? [] : (0..<count).map(Worker.init)
    }

    deinit {
        for worker in workers { worker.start.signal() }
    }

    /// Makes the calling thread a worker of its own: what it runs from now on uses no other thread.
    public static func bindToThisThread() { onednn_use_one_thread() }

    /// Runs `body(0)` … `body(count − 1)`, each on its own thread.
    public func run(_ body: @Sendable (Int) -> Void) {
        if workers.isEmpty {
            Self.bindToThisThread()
            return body(0)
        }
        withoutActuallyEscaping(body) { body in
            for (index, worker) in workers.enumerated() {
                worker.job.withLock { $0 = { body(index) } }
                worker.start.signal()
            }
            for worker in workers { worker.done.wait() }
        }
    }
}
