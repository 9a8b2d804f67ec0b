import FeedbackTransformer
import Testing

@testable import FeedbackTraining

@Suite struct TaskLoaderTests {
    /// Counts from one up to the difficulty; the standard sequence to seven. Hints are the numbers themselves.
    private struct Counting: SequenceTask {
        let name = "counting"
        let summary = ""
        let symbols = (0..<64).map(String.init)
        var difficulties: ClosedRange<Int>? { 1...60 }
        func sequence(using random: inout RandomSource) -> TaskSequence { lesson(7, using: &random) }
        func lesson(_ difficulty: Int, using random: inout RandomSource) -> TaskSequence {
            let start = Int32(random.below(3))
            let tokens = [start] + (1...difficulty).map(Int32.init)
            return TaskSequence(tokens: tokens, answers: tokens.map { $0 == 1 ? 0 : -1 }, hints: tokens)
        }
    }

    private func loader(
        period: Int = 100, difficulty: ClosedRange<Int>? = nil, seed: UInt64 = 1, hints: Bool = false
    ) -> TaskLoader {
        TaskLoader(
            Counting(), sequenceLength: 5, batchSize: 3, period: period, hints: hints, difficulty: difficulty,
            seed: seed)
    }

    private func row(_ r: Int, _ batch: Batch) -> [Int32] {
        (0..<batch.steps).map { batch.inputs[$0 * batch.rows + r] }
    }

    /// A row's sequences follow each other through the batches; no two rows have the same, and every seed has others.
    @Test func streamsGoOnFromBatchToBatch() {
        var (one, other) = (loader(), loader(seed: 2))
        var rows = Array(repeating: [Int32](), count: 3)
        var differs = false
        for _ in 0..<80 {
            let batch = one.next()
            differs = differs || batch != other.next()
            for r in 0..<3 { rows[r] += row(r, batch) }
        }
        for tokens in rows {
            for (place, token) in tokens.enumerated() where place % 8 > 0 { #expect(token == place % 8) }
            #expect(Set(stride(from: 0, to: tokens.count, by: 8).map { tokens[$0] }) == [0, 1, 2])
        }
        #expect(rows[0] != rows[1] && rows[1] != rows[2] && differs)
    }

    /// Without streams every batch begins new sequences.
    @Test func windowsBeginAnew() {
        var loader = loader(period: 1)
        for _ in 0..<20 {
            #expect(loader.beginsAnew)
            let batch = loader.next()
            for r in 0..<3 { #expect(row(r, batch).dropFirst() == [1, 2, 3, 4]) }
        }
    }

    /// Now and then all rows of a stream begin new sequences, wherever they are, and say so before.
    @Test func streamsBeginAnewNowAndThen() {
        var loader = loader(period: 3)
        var numbers = Set<Int>()
        for batch in 0..<30 {
            #expect(loader.beginsAnew == (batch % 3 == 0))
            let given = loader.next()
            for tokens in (0..<3).map({ row($0, given) }) {
                switch batch % 3 {
                case 0: #expect(tokens.dropFirst() == [1, 2, 3, 4])
                case 1: #expect(tokens.prefix(3) == [5, 6, 7] && tokens[4] == 1)
                default: #expect(tokens == [2, 3, 4, 5, 6])
                }
            }
            numbers.insert(loader.cursor.rows![0].sequence)
        }
        #expect(numbers == Set(0..<20))
    }

    /// A change of difficulty counts for the sequences drawn after it; each length has about as many tokens.
    @Test func difficultyChangesBetweenSequences() {
        var loader = loader()
        _ = loader.next()
        loader.difficulty = 30...30
        var tokens: [Int32] = []
        for _ in 0..<20 { tokens += row(0, loader.next()) }
        #expect(tokens.prefix(3) == [5, 6, 7] && tokens[4...33] == ArraySlice((1...30).map(Int32.init)))
        var random = RandomSource(seed: 8)
        let choice = DifficultyChoice(2...9)
        var drawn = Array(repeating: 0, count: 10)
        for _ in 0..<40_000 { drawn[choice.draw(using: &random)] += 1 }
        let tokensOfLengths = (2...9).map { Double($0 * drawn[$0]) }
        #expect(drawn[0] == 0 && drawn[1] == 0 && tokensOfLengths.max()! / tokensOfLengths.min()! < 1.15)
    }

    @Test func hintsAreTargetsOnlyWhereAsked() {
        var (plain, hinted) = (loader(period: 1), loader(period: 1, hints: true))
        #expect(plain.next().targets.dropFirst(3) == [0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1, -1])
        #expect(hinted.next().targets.dropFirst(3) == [0, 0, 0, 2, 2, 2, 3, 3, 3, 4, 4, 4])
    }

    /// From any place, in the middle of sequences of different lessons.
    @Test(arguments: [1, 7, 100]) func resumesAnywhere(period: Int) throws {
        var whole = loader(period: period, difficulty: 1...9)
        for taken in [0, 1, 4, 30] {
            for _ in 0..<taken { _ = whole.next() }
            whole.difficulty = 2...(10 + taken)
            var resumed = loader(period: period, difficulty: 2...(10 + taken))
            try resumed.resume(at: whole.cursor)
            #expect(resumed.cursor == whole.cursor)
            var copy = whole
            for _ in 0..<40 { #expect(resumed.next() == copy.next()) }
        }
    }

    @Test func foreignCursorsAreRefused() throws {
        var loader = loader()
        let good = loader.cursor
        let changes: [(inout LoaderCursor) -> Void] = [
            { $0.rows = nil }, { $0.position = -1 }, { $0.position = 101 }, { $0.rows!.removeLast() },
            { $0.random = [1, 2, 3, 4] }, { $0.rows![0].place = 9 },
            { $0.rows![1].place = -1 }, { $0.rows![1].sequence = -1 }, { $0.rows![0].easiest = 4 },
            { ($0.rows![0].easiest, $0.rows![0].hardest) = (4, 3) },
            { ($0.rows![0].easiest, $0.rows![0].hardest) = (1, .max) },
        ]
        for (index, change) in changes.enumerated() {
            var cursor = good
            change(&cursor)
            #expect(throws: CorpusError.self, "change \(index)") { try loader.resume(at: cursor) }
        }
        try loader.resume(at: good)
    }
}
