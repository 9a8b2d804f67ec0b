import FeedbackEngine
import Foundation
import Synchronization
import Testing

@Suite struct WorkerPoolTests {
    private final class Sum: Sendable {
        let value = Atomic(0)
    }

    /// Every phase sees what all threads did in the one before, also after the others have gone to sleep.
    @Test(arguments: 1...4) func phasesFollowEachOther(count: Int) {
        let team = WorkerPool(count: count)
        // Not a lock: a checker of threads that does not know Swift's sees the pool's own barrier alone.
        let sums = (0..<3).map { _ in Sum() }
        for round in 1...40 {
            let failures = Atomic(0)
            team.run { part in
                for phase in 0..<3 {
                    sums[phase].value.add(part + 1, ordering: .relaxed)
                    team.barrier(part)
                    if sums[phase].value.load(ordering: .relaxed) != round * count * (count + 1) / 2 {
                        failures.add(1, ordering: .relaxed)
                    }
                }
            }
            #expect(failures.load(ordering: .relaxed) == 0)
            if round % 20 == 0 { Thread.sleep(forTimeInterval: 0.05) }
        }
    }
}
