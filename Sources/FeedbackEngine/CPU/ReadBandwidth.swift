import CKernels
import Synchronization

/// Measures how fast threads read memory of a given size again and again: the rate of whichever cache it fits in, or of
/// main memory.
package final class ReadBandwidth: Sendable {
    package let bytes: Int
    private let shares: [Buffer<State>]
    private let pool: WorkerPool
    private let checksum = Atomic<UInt32>(0)

    /// Every thread reads a share of its own.
    package init(bytes: Int, threads: Int) {
        precondition(bytes > 0 && threads > 0)
        let share = max(512, (bytes / threads + 511) & ~511)
        pool = WorkerPool(count: threads)
        shares = (0..<threads).map { _ in Buffer(elementSize: 1, rows: 1, columns: share) }
        self.bytes = share * threads
        // Memory that was never written is one page of zeros, which any cache holds.
        for buffer in shares { buffer.all.base.initializeMemory(as: UInt8.self, repeating: 1, count: share) }
    }

    /// One measurement, of about a quarter of a gigabyte.
    package func bytesPerSecond() -> Double {
        let passes = max(2, 1 << 28 / bytes)
        let start = ContinuousClock.now
        pool.run { worker in
            let share = shares[worker].all
            var sum: UInt32 = 0
            for _ in 0..<passes { sum &+= feedback_read(share.base, share.count) }
            checksum.wrappingAdd(sum, ordering: .relaxed)
        }
        return Double(passes * bytes) / ((ContinuousClock.now - start) / .seconds(1))
    }
}
