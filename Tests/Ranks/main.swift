// Checks every call of CMPI: mpirun -n 4 ranks [BYTES], BYTES for each rank to send each other one; 2 GiB and more count too.
// check.sh starts it with 2 and 4 ranks of each MPI.
#if MPI
    import CMPI
    import Foundation

    func check(_ failure: UnsafePointer<CChar>?, line: Int = #line) {
        if let failure { end("line \(line): \(String(cString: failure))") }
    }
    func expect(_ holds: Bool, _ what: String, line: Int = #line) {
        if !holds { end("rank \(rank), line \(line): \(what)") }
    }
    func end(_ message: String) -> Never {
        FileHandle.standardError.write(Data((message + "\n").utf8))
        ranks_abort(1)
    }

    var place = ranks_place()
    check(ranks_start(&place))
    let rank = Int(place.rank)
    let ranks = Int(place.ranks)
    let machine = withUnsafeBytes(of: place.machine) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    expect(ranks == ranks_launched() && (0..<ranks).contains(rank), "rank \(rank) of \(ranks)")
    expect(!machine.isEmpty && place.local < place.locals && place.machines * place.locals >= place.ranks, "\(place)")

    // Pieces of every length, none too, at places apart from one another; the byte tells sender, receiver and position.
    let size = CommandLine.arguments.count > 1 ? Int(CommandLine.arguments[1])! : 1000
    func length(_ from: Int, _ to: Int) -> Int { (from + to) % 3 == 0 ? 0 : size + 13 * from + to }
    func byte(_ from: Int, _ to: Int, _ at: Int) -> UInt8 {
        UInt8(truncatingIfNeeded: from &* 31 &+ to &* 7 &+ at &* 131)
    }
    func layout(_ lengths: [Int]) -> (counts: [Int64], offsets: [Int64], total: Int) {
        var end = 0
        let offsets = lengths.map { length in
            defer { end += length + 5 }
            return Int64(end)
        }
        return (lengths.map(Int64.init), offsets, end)
    }
    func holds(_ bytes: [UInt8], at offset: Int64, count: Int64, _ from: Int, _ to: Int) -> Bool {
        bytes.withUnsafeBufferPointer { bytes in
            (0..<Int(count)).allSatisfy { bytes[Int(offset) + $0] == byte(from, to, $0) }
        }
    }

    do {
        let sent = layout((0..<ranks).map { length(rank, $0) })
        let received = layout((0..<ranks).map { length($0, rank) })
        var send = [UInt8](repeating: 0, count: sent.total)
        send.withUnsafeMutableBufferPointer { send in
            for to in 0..<ranks {
                for at in 0..<length(rank, to) { send[Int(sent.offsets[to]) + at] = byte(rank, to, at) }
            }
        }
        var receive = [UInt8](repeating: 255, count: received.total)
        check(ranks_exchange(send, sent.counts, sent.offsets, &receive, received.counts, received.offsets))
        for from in 0..<ranks {
            let (count, offset) = (received.counts[from], received.offsets[from])
            expect(holds(receive, at: offset, count: count, from, rank), "the bytes of rank \(from) differ")
            expect(
                receive[Int(offset + count)..<Int(offset + count) + 5].allSatisfy { $0 == 255 }, "written past the end")
        }
    }

    do {
        let all = layout((0..<ranks).map { length($0, 0) })
        var bytes = [UInt8](repeating: 255, count: all.total)
        bytes.withUnsafeMutableBufferPointer { bytes in
            for at in 0..<length(rank, 0) { bytes[Int(all.offsets[rank]) + at] = byte(rank, 0, at) }
        }
        check(ranks_gather(&bytes, all.counts, all.offsets))
        for from in 0..<ranks {
            expect(
                holds(bytes, at: all.offsets[from], count: all.counts[from], from, 0),
                "the piece of rank \(from) differs")
        }
    }

    for root in 0..<ranks {
        var bytes = (0..<size).map { rank == root ? byte(root, 0, $0) : 0 }
        check(ranks_broadcast(&bytes, Int64(size), Int32(root)))
        expect(holds(bytes, at: 0, count: Int64(size), root, 0), "what rank \(root) sent to all differs")
    }

    var smallest = [Int64(rank), Int64.max - Int64(rank), -7]
    check(ranks_minimum(&smallest, 3))
    expect(smallest == [0, Int64.max - Int64(ranks - 1), -7], "minimum \(smallest)")
    var largest = [Int64(rank), Int64.min + Int64(rank)]
    check(ranks_maximum(&largest, 2))
    expect(largest == [Int64(ranks - 1), Int64.min + Int64(ranks - 1)], "maximum \(largest)")

    // All wait for the last, which comes a quarter of a second late.
    let began = ContinuousClock.now
    if rank == ranks - 1 { usleep(250_000) }
    check(ranks_barrier())
    expect(began.duration(to: .now) > .milliseconds(200), "the barrier let rank \(rank) through")

    // A rank that does not exist is reported, and nothing aborts.
    var nothing: UInt8 = 0
    let failure = ranks_broadcast(&nothing, 1, Int32(ranks)).map { String(cString: $0) }
    expect(failure?.contains("rank \(rank) on \(machine): MPI_Bcast failed: ") == true, failure ?? "no failure")
    expect(failure?.contains("\n") == false, "more than one line: \(failure!)")

    if rank == 0 { print("\(ranks) ranks on \(place.machines) machines: every call holds") }
    check(ranks_finish())
#else
    print("Built without the trait MPI: there are no ranks to check")
#endif
