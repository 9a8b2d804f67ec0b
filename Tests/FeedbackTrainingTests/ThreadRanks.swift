import FeedbackTransformer
import Foundation

/// Ranks that are threads of this process.
final class ThreadRanks: @unchecked Sendable {
    private let count: Int
    private let condition = NSCondition()
    private var given: [Any?]
    private var meeting: (number: Int, values: [Any]) = (0, [])
    /// By rank.
    private(set) var bytesSent: [Int]

    struct Rank: Communicator {
        let rank: Int
        fileprivate let all: ThreadRanks
        var ranks: Int { all.count }

        func allGather(_ own: [UInt8]) -> [[UInt8]] { all.meet(rank, own) }

        func scatter(
            _ base: UnsafeRawPointer, _ parts: [[Range<Int>]], from senders: [Int],
            into received: UnsafeMutableRawPointer
        ) {
            if senders.contains(rank) {
                all.count(rank, parts.enumerated().filter { $0.offset != rank }.flatMap(\.element))
            }
            var place = received
            for (sender, base) in all.meet(rank, base).enumerated() where sender != rank && senders.contains(sender) {
                for part in parts[rank] {
                    place.copyMemory(from: base + part.lowerBound, byteCount: part.count)
                    place += part.count
                }
            }
            _ = all.meet(rank, 0)
        }

        func allGather(_ base: UnsafeMutableRawPointer, _ parts: [[Range<Int>]]) {
            for _ in 1..<ranks { all.count(rank, parts[rank]) }
            for (sender, other) in all.meet(rank, base).enumerated() where sender != rank {
                for part in parts[sender] {
                    (base + part.lowerBound).copyMemory(from: other + part.lowerBound, byteCount: part.count)
                }
            }
            _ = all.meet(rank, 0)
        }
    }

    private init(_ count: Int) {
        self.count = count
        given = Array(repeating: nil, count: count)
        bytesSent = Array(repeating: 0, count: count)
    }

    private func count(_ rank: Int, _ parts: [Range<Int>]) { bytesSent[rank] += parts.reduce(0) { $0 + $1.count } }

    /// What all ranks give, when all have.
    private func meet<Value>(_ rank: Int, _ value: Value) -> [Value] {
        condition.lock()
        defer { condition.unlock() }
        given[rank] = value
        let number = meeting.number
        if given.allSatisfy({ $0 != nil }) {
            meeting = (number + 1, given.map { $0! })
            given = Array(repeating: nil, count: count)
            condition.broadcast()
        }
        while meeting.number == number { condition.wait() }
        return meeting.values.map { $0 as! Value }
    }

    /// Runs something on every rank at once; gives what each has made of it, and the ranks.
    static func run<Value>(
        _ count: Int, _ body: @escaping @Sendable (Rank) throws -> Value
    ) -> (results: [Result<Value, any Error>], ranks: ThreadRanks) {
        let ranks = ThreadRanks(count)
        nonisolated(unsafe) var results: [Result<Value, any Error>?] = Array(repeating: nil, count: count)
        let (lock, group) = (NSLock(), DispatchGroup())
        for rank in 0..<count {
            group.enter()
            let thread = Thread {
                let result = Result { try body(Rank(rank: rank, all: ranks)) }
                lock.withLock { results[rank] = result }
                group.leave()
            }
            thread.stackSize = 4 << 20
            thread.start()
        }
        group.wait()
        return (results.map { $0! }, ranks)
    }
}
