import CKernels
import COneDNN
import Foundation
import Synchronization

/// Threads that each do their share of one job at a time, the calling thread among them.
///
/// Which thread does what depends on its number alone, never on timing. The phases of a decoding step last a microsecond or
/// a few, those between training steps little more: too short to sleep and be woken. So who waits, at a barrier or for the
/// next job, spins; but only for a tenth of a millisecond or so, then it sleeps. Nothing spins while nothing is to be done,
/// and where other programs want the cores too, a core on which one thread waits is free for the thread it waits for.
public final class WorkerPool: Sendable {
    public let count: Int
    private let state: Shared

    private final class Shared: @unchecked Sendable {
        let count: Int
        /// The number of the current job; changing it starts the next.
        let job = Atomic<Int>(0)
        /// What the job is. Written before `job` changes and after all have left, so it needs no lock; by pointer, as every
        /// access to a variable of a class would be checked.
        let body: UnsafeMutablePointer<(@Sendable (Int) -> Void)?>
        let stopped = Atomic<Bool>(false)
        /// At barriers, since the beginning.
        let arrived = Atomic<Int>(0)
        /// By pointer, as an array's references would be counted at every barrier, by all threads at once.
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

        /// Does the job and lets go of it before the caller knows that it is done.
        @inline(never) private func perform(_ index: Int) { body.pointee?(index) }
    }

    /// Where one thread waits. Whoever turns `asleep` back takes, or gives, the one signal.
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

        /// Call after making what the sleeper waits for true.
        func wake() {
            if asleep.load(ordering: .sequentiallyConsistent)
                && asleep.exchange(false, ordering: .sequentiallyConsistent)
            {
                signal.signal()
            }
        }
    }

    /// A pool of one is the calling thread.
    public init(count: Int) {
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

    /// Makes the calling thread a worker of its own: what it runs from now on uses no other thread.
    public static func bindToThisThread() { onednn_use_one_thread() }

    /// Runs `body(0)` on the calling thread and `body(1)` … `body(count − 1)` on the others; returns when all are done.
    public func run(_ body: @Sendable (Int) -> Void) {
        Self.bindToThisThread()
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
    public func barrier(_ part: Int) { state.barrier(part) }
}
