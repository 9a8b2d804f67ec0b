import FeedbackTransformer
import Testing

@testable import FeedbackTraining

@Suite struct LoaderTests {
    private let tokens = (0..<1000).map { Int32($0) }

    @Test func targetsFollowInputs() throws {
        var loader = try ShuffledLoader(TokenStream(tokens), sequenceLength: 7, batchSize: 3, seed: 1)
        for _ in 0..<200 {
            let batch = try loader.next()
            #expect(batch.inputs.count == 21)
            for t in 0..<7 {
                for row in 0..<3 {
                    #expect(batch.targets[t * 3 + row] == batch.inputs[t * 3 + row] + 1)
                    if t > 0 { #expect(batch.inputs[t * 3 + row] == batch.inputs[(t - 1) * 3 + row] + 1) }
                }
            }
        }
    }

    /// An epoch visits every window once, each started up to T − 1 later, in another order than the last epoch.
    @Test func anEpochVisitsEveryWindowOnce() throws {
        var loader = try ShuffledLoader(TokenStream(tokens), sequenceLength: 9, batchSize: 3, seed: 1)
        #expect(loader.windows == 111)
        var orders: [[Int]] = []
        for _ in 0..<2 {
            let starts = try (0..<37).flatMap { _ in try loader.next().inputs.prefix(3).map(Int.init) }
            #expect(Set(starts.map { $0 / 9 }).count > 60)
            orders.append(starts)
        }
        #expect(orders[0] != orders[1])
        // Each window's start lies in the window or is the first of the next: w·T + jitter, jitter < T.
        let sorted = orders[0].sorted()
        for (window, start) in sorted.enumerated() { #expect((window * 9..<(window + 1) * 9).contains(start)) }
    }

    /// Also where windows are shuffled in groups of neighbours, which do not come one after the other; resumed too.
    @Test func anEpochOfGroupsVisitsEveryWindowOnce() throws {
        var loader = try ShuffledLoader(
            TokenStream(tokens), sequenceLength: 9, batchSize: 1, seed: 1, mostGroups: 20)
        for _ in 0..<2 {
            var windows: [Int] = []
            for number in 0..<111 {
                if number == 50 {
                    var resumed = loader
                    try resumed.resume(at: loader.cursor)
                    loader = resumed
                }
                windows.append(Int(try loader.next().inputs[0]))
            }
            for (window, start) in windows.sorted().enumerated() {
                #expect((window * 9..<(window + 1) * 9).contains(start))
            }
            #expect(zip(windows, windows.dropFirst()).count { abs($0 - $1) < 36 } < 30)
        }
    }

    @Test func theSameSeedGivesTheSameBatches() throws {
        var (a, b) = (
            try ShuffledLoader(TokenStream(tokens), sequenceLength: 8, batchSize: 4, seed: 5),
            try ShuffledLoader(TokenStream(tokens), sequenceLength: 8, batchSize: 4, seed: 5)
        )
        var other = try ShuffledLoader(TokenStream(tokens), sequenceLength: 8, batchSize: 4, seed: 6)
        var differs = false
        for _ in 0..<100 {
            let batch = try a.next()
            #expect(try batch == b.next())
            differs = try batch != other.next() || differs
        }
        #expect(differs)
    }

    /// From any place, also across the end of an epoch.
    @Test func resumesAnywhere() throws {
        var loader = try ShuffledLoader(TokenStream(tokens), sequenceLength: 10, batchSize: 7, seed: 2)
        for taken in [0, 1, 5, 14, 15, 40] {
            for _ in 0..<taken { _ = try loader.next() }
            var resumed = try ShuffledLoader(TokenStream(tokens), sequenceLength: 10, batchSize: 7, seed: 99)
            try resumed.resume(at: loader.cursor)
            var copy = loader
            for _ in 0..<50 { #expect(try resumed.next() == copy.next()) }
        }
    }

    @Test func shortTexts() throws {
        #expect(throws: CorpusError.self) {
            try ShuffledLoader(TokenStream([1, 2, 3]), sequenceLength: 3, batchSize: 1, seed: 1)
        }
        var loader = try ShuffledLoader(TokenStream([1, 2, 3, 4]), sequenceLength: 3, batchSize: 2, seed: 1)
        #expect(try loader.next().inputs == [1, 1, 2, 2, 3, 3])
    }

    /// Every token but the first is a target exactly once, after its own predecessor, whatever the sizes.
    @Test(arguments: [(2, 5, 3), (10, 3, 4), (101, 7, 5), (1000, 64, 32), (50, 100, 1)])
    func sequentialCoversTheWholeText(count: Int, steps: Int, rows: Int) throws {
        let tokens = (0..<count).map { Int32($0) }
        var loader = SequentialLoader(TokenStream(tokens), sequenceLength: steps, batchSize: rows)
        var seen = Array(repeating: 0, count: count)
        var last: [Int32?] = Array(repeating: nil, count: loader.rows)
        while let batch = try loader.next() {
            #expect(batch.steps == steps && batch.rows == loader.rows)
            for (index, target) in batch.targets.enumerated() where target >= 0 {
                #expect(batch.inputs[index] == target - 1)
                if let before = last[index % batch.rows] { #expect(batch.inputs[index] == before) }
                last[index % batch.rows] = target
                seen[Int(target)] += 1
            }
        }
        #expect(seen == [0] + Array(repeating: 1, count: count - 1))
    }

    /// Of many tokens as many as are wanted, in pieces from all over.
    @Test func sequentialTakesAShareOfEveryRow() throws {
        var loader = SequentialLoader(TokenStream(tokens), sequenceLength: 8, batchSize: 5, most: 100)
        var targets: [Int32] = []
        while let batch = try loader.next() { targets += batch.targets }
        let expected = (0..<5).flatMap { row in (1...20).map { Int32(999 * row / 5 + $0) } }
        #expect(targets.filter { $0 >= 0 }.sorted() == expected)
    }

    /// Of a task, rows begin where sequences do, and still every target is had once.
    @Test(arguments: [1, 3, 4, 30]) func sequentialBeginsWithSequences(rows: Int) throws {
        let starts = [0, 10, 17, 40, 90]
        let inputs = (0..<100).map { Int32($0) }
        let stream = TokenStream(inputs: inputs, targets: inputs, starts: starts)
        var loader = SequentialLoader(stream, sequenceLength: 7, batchSize: rows)
        #expect(loader.rows <= min(rows, 5))
        var seen: [Int32] = []
        while let batch = try loader.next() {
            if seen.isEmpty { #expect(batch.inputs.prefix(batch.rows).allSatisfy { starts.contains(Int($0)) }) }
            seen += batch.targets
        }
        #expect(seen.filter { $0 >= 0 }.sorted() == inputs)
    }

    /// Every row goes on where it was, round the whole data, a share apart from the next; a resumed one too.
    @Test(arguments: [(7, 3), (100, 4), (1, 1), (999, 2)]) func streamsContinue(steps: Int, rows: Int) throws {
        let stream = TokenStream(tokens)
        var loader = try StreamLoader(stream, sequenceLength: steps, batchSize: rows)
        var next = (0..<rows).map { 999 * $0 / rows }
        for number in 0..<50 {
            if number % 20 == 10 {
                var resumed = try StreamLoader(stream, sequenceLength: steps, batchSize: rows)
                try resumed.resume(at: loader.cursor)
                loader = resumed
            }
            let batch = try loader.next()
            for index in batch.inputs.indices {
                let row = index % rows
                #expect(Int(batch.inputs[index]) == next[row] && Int(batch.targets[index]) == next[row] + 1)
                next[row] = (next[row] + 1) % 999
            }
        }
        #expect(throws: CorpusError.self) { try StreamLoader(stream, sequenceLength: 1000, batchSize: 1) }
    }
}
