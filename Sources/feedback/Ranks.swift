import ArgumentParser
import FeedbackTraining
import FeedbackTransformer
import Foundation

/// The processes that mpirun or srun has started to train together; this one alone where it has been started by hand.
struct Ranks {
    let communicator: any Communicator
    /// How many machines they are on.
    let machines: Int
    /// The cores that this process has for itself.
    let cores: Int

    var count: Int { communicator.ranks }
    var isFirst: Bool { communicator.isFirst }

    /// What the run is shared among, as a person reads it; nil for one process.
    func summary(_ configuration: RunConfiguration, rows: Int) -> String? {
        if count == 1 { return nil }
        let (fewest, most) = (rows / count, (rows + count - 1) / count)
        return
            "\(count) ranks on \(machines) machine\(machines == 1 ? "" : "s"), \(threads(configuration.threads)) each, "
            + (fewest == most ? "\(fewest)" : "\(fewest) or \(most)") + " row\(most == 1 ? "" : "s") a rank"
    }
}

/// A number of threads, as a person reads it.
func threads(_ count: Int) -> String { "\(count) thread\(count == 1 ? "" : "s")" }

#if MPI
    import CMPI

    extension Ranks {
        /// Begins together with the other ranks.
        static func start() throws -> Ranks {
            let all = ProcessInfo.processInfo.activeProcessorCount
            guard ranks_launched() > 1 else { return Ranks(communicator: OneProcess(), machines: 1, cores: all) }
            var place = ranks_place()
            if let failure = ranks_start(&place) { throw ConfigurationError(String(cString: failure)) }
            // Who is not kept to some of them shares all cores with the other ranks here.
            let isBound = all < ProcessInfo.processInfo.processorCount
            return Ranks(
                communicator: MPICommunicator(rank: Int(place.rank), ranks: Int(place.ranks)),
                machines: Int(place.machines), cores: isBound ? all : max(1, all / Int(place.locals)))
        }

        /// Ends together with the other ranks.
        func finish() {
            if count > 1 { _ = ranks_finish() }
        }

        /// Ends all ranks for an error, with one line: the first rank's own, where it has met the same.
        func fail(_ error: any Error) throws -> Never {
            if count == 1 || error is ExitCode { throw error }
            if !isFirst { sleep(2) }
            FileHandle.standardError.write(
                Data((isFirst ? "Error: \(error)\n" : "Error: rank \(communicator.rank): \(error)\n").utf8))
            ranks_abort(1)
        }
    }

    /// The ranks of MPI's world.
    private struct MPICommunicator: Communicator {
        let rank, ranks: Int
        private var others: some Sequence<Int> { (1..<ranks).lazy.map { (rank + $0) % ranks } }

        func allGather(_ own: [UInt8]) -> [[UInt8]] {
            // First how much each has.
            var counts = [Int](repeating: own.count, count: ranks)
            let size = MemoryLayout<Int>.size
            counts.withUnsafeMutableBytes {
                allGather($0.baseAddress!, (0..<ranks).map { [$0 * size..<($0 + 1) * size] })
            }
            let starts = counts.reduce(into: [0]) { $0.append($0.last! + $1) }
            var all = [UInt8](repeating: 0, count: starts[ranks])
            all.replaceSubrange(starts[rank]..<starts[rank + 1], with: own)
            let parts = (0..<ranks).map { [starts[$0]..<starts[$0 + 1]] }
            all.withUnsafeMutableBytes { bytes in if let base = bytes.baseAddress { allGather(base, parts) } }
            return parts.map { Array(all[$0[0]]) }
        }

        func scatter(
            _ base: UnsafeRawPointer, _ parts: [[Range<Int>]], from senders: [Int],
            into received: UnsafeMutableRawPointer
        ) {
            var place = 0
            let receives = senders.filter { $0 != rank }.flatMap { sender in
                parts[rank].map { part in
                    defer { place += part.count }
                    return ranks_piece(rank: Int32(sender), offset: Int64(place), count: Int64(part.count))
                }
            }
            exchange(base, senders.contains(rank) ? pieces(parts) : [], received, receives)
        }

        func allGather(_ base: UnsafeMutableRawPointer, _ parts: [[Range<Int>]]) {
            exchange(base, pieces(Array(repeating: parts[rank], count: ranks)), base, pieces(parts))
        }

        /// Everybody's but this rank's. It begins with its neighbour, so that nobody is sent everything at once.
        private func pieces(_ parts: [[Range<Int>]]) -> [ranks_piece] {
            others.flatMap { other in
                parts[other].map {
                    ranks_piece(rank: Int32(other), offset: Int64($0.lowerBound), count: Int64($0.count))
                }
            }
        }

        private func exchange(
            _ from: UnsafeRawPointer, _ sent: [ranks_piece], _ to: UnsafeMutableRawPointer, _ received: [ranks_piece]
        ) {
            guard let failure = ranks_exchange(from, sent, Int32(sent.count), to, received, Int32(received.count))
            else {
                return
            }
            FileHandle.standardError.write(
                Data("Error: \(String(cString: failure)); go on with --resume when all machines are there\n".utf8))
            ranks_abort(1)
        }
    }
#else
    extension Ranks {
        /// Throws where several have been started: each would train alone.
        static func start() throws -> Ranks {
            let environment = ProcessInfo.processInfo.environment
            for name in ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"] {
                if let count = environment[name].flatMap(Int.init), count > 1 {
                    throw ConfigurationError(
                        "this program was built without MPI, and \(count) of it would each train alone; build it with make mpi"
                    )
                }
            }
            return Ranks(
                communicator: OneProcess(), machines: 1, cores: ProcessInfo.processInfo.activeProcessorCount)
        }

        func finish() {}
        func fail(_ error: any Error) throws -> Never { throw error }
    }
#endif
