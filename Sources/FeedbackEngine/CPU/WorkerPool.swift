import CKernels
import COneDNN
import Foundation
import Synchronization

/// Threads that each do their share of one job at a time, the calling thread among them.
///
/// Which thread does what depends on its number alone, never on timing. A thread that waits, at a barrier or for the next
/// job, spins for about a tenth of a millisecond and then sleeps. To sleep at once would take longer than most waits: the
/// phases of a decoding step last microseconds, those between training steps little more. To spin on would burn a core while
/// there is nothing to do, and keep it from the very thread that is waited for where other programs want the cores too.
package final class WorkerPool: Sendable {
    package let count: Int
    private let state: Shared

    private final class Shared: @unchecked Sendable {
        let count: Int
        /// The number of the current job; changing it starts the next.
        let job = Atomic<Int>(0)
        /// The current job. It is written only while no worker is in one, before `job` changes or after the last barrier, so
        /// it needs no lock. A pointer, as exclusive access to a variable of a class would be checked each time.
        let body: UnsafeMutablePointer<(@Sendable (Int) -> Void)?>
        let stopped = Atomic<Bool>(false)
        /// How many times a thread has come to a barrier, all threads together.
        let arrived = Atomic<Int>(0)
        /// A pointer, as references to an array would be counted at every barrier, by all threads at once.
        let sleepers: UnsafeMutablePointer<Sleeper>

        init(count: Int) {
            self.count = count
            body = .allocate(capacity: 1)
            body.initialize(to: nil)
            sleepers = .allocate(capacity: count)
            for index in 0..<count { (sleepers + index).initialize(to: Sleeper()) }
        }

        deinit {
            sleepers.deinitialize(count: count)
            sleepers.deallocate()
            body.deinitialize(count: 1)
            body.deallocate()
        }

        func wakeAll() {
            for index in 0..<count { sleepers[index].wake() }
        }

        func barrier(_ index: Int) {
            if count == 1 { return }
            let arrival = arrived.add(1, ordering: .sequentiallyConsistent).newValue
            let all = (arrival + count - 1) / count * count
            if arrival == all { return wakeAll() }
            sleepers[index].wait { arrived.load(ordering: .sequentiallyConsistent) >= all }
        }

        func start() {
            job.add(1, ordering: .sequentiallyConsistent)
            wakeAll()
        }

        /// What worker `index` does until the pool is gone.
        func work(_ index: Int) {
            onednn_use_one_thread()
            var seen = 0
            while true {
                sleepers[index].wait { job.load(ordering: .sequentiallyConsistent) != seen }
                if stopped.load(ordering: .acquiring) { return }
                seen += 1
                perform(index)
                barrier(index)
            }
        }

        /// Does the job. A function of its own, never inlined, so that its reference to the job is gone before the barrier.
        @inline(never) private func perform(_ index: Int) { body.pointee?(index) }
    }

    /// Where one thread waits. Whoever sets `asleep` back to false decides what follows: the waker signals, or the sleeper,
    /// which has found that it need not sleep, does not wait.
    private struct Sleeper: ~Copyable {
        private let asleep = Atomic<Bool>(false)
        private let signal = DispatchSemaphore(value: 0)

        @inline(__always) func wait(until ready: () -> Bool) {
            for _ in 0..<4096 {
                if ready() { return }
                feedback_pause()
            }
            while !ready() {
                asleep.store(true, ordering: .sequentiallyConsistent)
                let cancelled = ready() && asleep.exchange(false, ordering: .sequentiallyConsistent)
                if !cancelled { signal.wait() }
            }
        }

        /// To be called when what the sleeper waits for has become true.
        func wake() {
            if asleep.load(ordering: .sequentiallyConsistent)
                && asleep.exchange(false, ordering: .sequentiallyConsistent)
            {
                signal.signal()
            }
        }
    }

    /// A pool of one is the calling thread.
    package init(count: Int) {
        precondition(count > 0, "a pool needs a thread, not \(count)")
        self.count = count
        state = Shared(count: count)
        for index in 1..<count {
            let thread = Thread { [state] in state.work(index) }
            thread.name = "feedback worker \(index)"
            thread.stackSize = 4 << 20
            thread.start()
        }
    }

    deinit {
        state.stopped.store(true, ordering: .releasing)
        state.start()
    }

    /// Runs `body(0)` on the calling thread and `body(1)` … `body(count − 1)` on the others; returns when all are done.
    package func run(_ body: @Sendable (Int) -> Void) {
        onednn_use_one_thread()
        if count == 1 { return body(0) }
        withoutActuallyEscaping(body) { body in
            state.body.pointee = body
            state.start()
            body(0)
            state.barrier(0)
            state.body.pointee = nil
        }
    }

    /// Waits in `body(part)` until all have come here.
    package func barrier(_ part: Int) { state.barrier(part) }
}
