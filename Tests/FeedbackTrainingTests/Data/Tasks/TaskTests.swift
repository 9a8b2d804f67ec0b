import FeedbackTransformer
import Foundation
import Testing

@testable import FeedbackTraining

@Suite struct TaskTests {
    /// Runs a program word by word, as a reader of its text would, and tells what is printed.
    private func execute(_ program: String) throws -> [Int] {
        var (values, printed): ([String: Int], [Int]) = ([:], [])
        var words = program.split(separator: " ").map(String.init)[...]
        func change(_ words: ArraySlice<String>, if holds: Bool) throws {
            let words = Array(words)
            let name = words[0]
            switch words[1] {
            case "=":
                #expect(values[name] == nil && words.count == 3)
                let value = try #require(Int(words[2]))
                #expect((1...10).contains(value))
                if holds { values[name] = value }
            case "++", "--":
                let value = try #require(values[name]) + (words[1] == "++" ? 1 : -1)
                #expect((1...10).contains(value) && words.count == 2)
                if holds { values[name] = value }
            default: Issue.record("\(words)")
            }
        }
        while let end = words.firstIndex(of: ";") {
            let statement = words[words.startIndex..<end]
            let first = statement.startIndex
            switch statement[first] {
            case "print":
                printed.append(try #require(values[statement[first + 1]]))
                #expect(statement.count == 2)
            case "if":
                let (left, right) = (try #require(values[statement[first + 1]]), statement[first + 3])
                #expect(statement[first + 4] == ":" && right != statement[first + 1])
                let bound = try #require(Int(right) ?? values[right])
                try change(statement[(first + 5)...], if: statement[first + 2] == "<" ? left < bound : left > bound)
            default: try change(statement, if: true)
            }
            words = words[(end + 1)...]
        }
        #expect(Array(words) == ["END"])
        return printed
    }

    /// The answers are what the programs print; sizes and chance are as they should be.
    @Test(arguments: [3, 5]) func programsPrintTheirAnswers(variables: Int) throws {
        let task = VariableAssignment(variables: variables)
        var random = RandomSource(seed: 1)
        var (tokens, answers, frequency) = (0, 0, [Int32: Int]())
        for _ in 0..<200 {
            let sequence = task.sequence(using: &random)
            let text = sequence.tokens.map { task.symbols[Int($0)] }
            #expect(text.count { $0 == ";" } == 100)
            let expected = try execute(text.joined(separator: " "))
            #expect(sequence.answers.filter { $0 >= 0 }.map { Int(task.symbols[Int($0)]) } == expected)
            for index in sequence.tokens.indices where sequence.answers[index] >= 0 {
                #expect(text[index] == ";" && text[index - 2] == "print")
                frequency[sequence.answers[index], default: 0] += 1
            }
            tokens += text.count
            answers += expected.count
        }
        #expect(abs(Double(tokens) / 200 - 429) < 15 && abs(Double(answers) / 200 - 25.5) < 1.5)
        #expect(Double(frequency.values.max()!) / Double(answers) < 0.14 && frequency.count == 10)
    }

    @Test(arguments: [false, true]) func copiesAndReverses(reversed: Bool) {
        let task = Copying(reversed: reversed)
        var random = RandomSource(seed: 1)
        var lengths: Set<Int> = []
        for _ in 0..<500 {
            let sequence = task.sequence(using: &random)
            let text = sequence.tokens.map { task.symbols[Int($0)] }
            let length = text.firstIndex(of: "=")!
            let digits = Array(text[..<length])
            #expect(Array(text[(length + 1)...]) == (reversed ? digits.reversed() : digits) + ["END"])
            // From "=" on the next token is the answer, then nothing.
            #expect(sequence.answers.dropLast().dropFirst(length) == sequence.tokens.dropFirst(length + 1))
            #expect(sequence.answers.prefix(length).allSatisfy { $0 == -1 } && sequence.answers.last == -1)
            lengths.insert(length)
        }
        #expect(lengths == Set(1...20))
    }

    /// A lesson has as many statements or digits as it says, and a program's hints are what a `print` would say there.
    @Test func lessonsAreAsDifficultAsAsked() throws {
        let task = VariableAssignment(variables: 3)
        var random = RandomSource(seed: 4)
        for difficulty in [1, 2, 7, 30] {
            for _ in 0..<50 {
                let lesson = task.lesson(difficulty, using: &random)
                let words = lesson.tokens.map { task.symbols[Int($0)] }
                #expect(words.count { $0 == ";" } == difficulty)
                let hints = try #require(lesson.hints)
                for end in words.indices where words[end] == ";" {
                    #expect(lesson.answers[end] < 0 || hints[end] < 0)
                    guard hints[end] >= 0 else { continue }
                    // The changed variable's name is before its change, two or three words from the end.
                    let name = words[words[end - 1].hasPrefix("+") || words[end - 1].hasPrefix("-") ? end - 2 : end - 3]
                    let asked = words[...end] + ["print", name, ";", "END"]
                    // An `if` that assigns and does not hold leaves a variable without a value, and no hint there.
                    #expect(try execute(asked.joined(separator: " ")).last == Int(hints[end]) + 1)
                }
            }
        }
        #expect(Copying(reversed: true).lesson(3, using: &random).tokens.count == 3 + 1 + 4)
    }

    @Test func whatAModelAnswersIsShown() {
        let task = VariableAssignment(variables: 3)
        let words = "x = 3 ; print x ; print x ; END".split(separator: " ").map {
            Int32(task.symbols.firstIndex(of: String($0))!)
        }
        let sequence = TaskSequence(tokens: words, answers: [-1, -1, -1, -1, -1, -1, 2, -1, -1, 2, -1])
        let given: [Int32] = [0, 0, 0, 0, 0, 0, 2, 0, 0, 9, 0]
        #expect(task.show(sequence, answers: given) == "x = 3 ;\nprint x ; → 3 ✓\nprint x ; → 10 ✗ (3)\nEND ")
        let copy = Copying(reversed: false)
        let digits = TaskSequence(tokens: [7, 5, 10, 7, 5, 11], answers: [-1, -1, 7, 5, 11, -1])
        #expect(copy.show(digits, answers: [0, 0, 7, 3, 11, 0]) == "7 5 = 7 (3) END\n")
    }

    @Test func partsDifferAndStayTheSame() throws {
        let corpus = TaskCorpus(Copying(reversed: false), training: 50, validation: 20, test: 10)
        let tokenizer = try corpus.tokenizer(nil)
        let parts = try [.training, .validation, .test].map { try corpus.stream($0, tokenizer) }
        #expect(try parts.map { part in try part.inputs.count { $0 == 11 } } == [50, 20, 10])
        #expect(try parts[0].inputs.prefix(40) != parts[1].inputs.prefix(40))
        let again = try corpus.stream(.training, tokenizer)
        #expect(try again.inputs == parts[0].inputs && again.targets == parts[0].targets)
        #expect(try corpus.stream(.all, tokenizer).count == parts.reduce(0) { $0 + $1.count })
        #expect(throws: CorpusError.self) { try corpus.tokenizer(.words) }
        #expect(throws: CorpusError.self) { try corpus.stream(.test, Tokenizer(.bytes, text: "")) }
    }

    /// A task of a library user's own: what was the symbol before? It is learned, by memory alone.
    private struct Before: SequenceTask {
        let name = "before"
        let summary = "the symbol before"
        let symbols = ["a", "b", "c", "?"]

        func sequence(using random: inout RandomSource) -> TaskSequence {
            let letter = Int32(random.below(3))
            return TaskSequence(tokens: [letter, 3], answers: [-1, letter])
        }
    }

    @Test func aTaskOfOnesOwnIsLearned() throws {
        var configuration = smallConfiguration()
        (configuration.data, configuration.length, configuration.evalInterval) = ("before", .steps(120), 120)
        configuration.learningRate = 1e-2
        let corpus = TaskCorpus(Before(), training: 400, validation: 100, test: 10)
        let streaming = try Trainer(configuration, corpus: corpus).configuration
        #expect(streaming.streams == true && streaming.memoryWindow == 20 && streaming.tokenizer == .symbols)
        // From fresh windows every seed learns it.
        configuration.streams = false
        let trainer = try Trainer(configuration, corpus: corpus)
        #expect(try trainer.validate().accuracy < 0.8)
        try trainer.run()
        let evaluation = try trainer.validate()
        #expect(evaluation.accuracy > 0.95 && evaluation.tokens == 100)
        #expect(abs(evaluation.bitsPerCharacter - evaluation.loss / log(2)) < 1e-12)
        #expect(try trainer.sample().contains("✓"))
    }

    /// Targets are so rare here that most batches have none.
    @Test func batchesWithNothingToPredict() throws {
        struct Rare: SequenceTask {
            let name = "rare"
            let summary = ""
            let symbols = ["a", "b"]
            func sequence(using random: inout RandomSource) -> TaskSequence {
                TaskSequence(tokens: Array(repeating: 0, count: 300), answers: Array(repeating: -1, count: 299) + [1])
            }
        }
        var configuration = smallConfiguration()
        configuration.length = .steps(20)
        let trainer = try Trainer(configuration, corpus: TaskCorpus(Rare(), training: 10, validation: 5, test: 1))
        var targets: [Int] = []
        try trainer.run { if case .step(let step) = $0 { targets.append(step.tokens) } }
        #expect(targets.contains(0) && targets.contains { $0 > 0 })
    }
}
