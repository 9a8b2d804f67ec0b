import FeedbackEngine
import Foundation
import Synchronization
import Testing

@Suite struct WorkerPoolTests {
    /// Every phase sees what all threads did in the one before, also after the others have gone to sleep.
    @Test(arguments: 1...4) func phasesFollowEachOther(count: Int) {
        let team = WorkerPool(count: count)
        let sums = Mutex((0..<3).map { _ in 0 })
        for round in 1...40 {
            let failures = Atomic(0)
            team.run { part in
                for phase in 0..<3 {
                    sums.withLock { $0[phase] += part + 1 }
                    team.barrier(part)
                    if sums.withLock({ $0[phase] }) != round * count * (count + 1) / 2 {
                        failures.add(1, ordering: .relaxed)
                    }
                }
            }
            #expect(failures.load(ordering: .relaxed) == 0)
            if round % 20 == 0 { Thread.sleep(forTimeInterval: 0.05) }
        }
    }
}
