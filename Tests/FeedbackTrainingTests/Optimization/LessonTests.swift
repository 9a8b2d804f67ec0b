import FeedbackTransformer
import Foundation
import Testing

@testable import FeedbackTraining

@Suite struct LessonTests {
    @Test func readsItsOwnText() throws {
        for text in ["0:2-12,20000:2-40,60000:100", "0:5", "0:2-12,95%:2-40,99.5%:100,70000:1-10000"] {
            #expect("\(try Lessons(text))" == text)
        }
        let lessons = try Lessons("0:2-12,95%:40").lessons
        #expect(lessons.map(\.difficulty) == [2...12, 40...40] && lessons.map(\.start) == [.step(0), .accuracy(95)])
    }

    @Test(arguments: [
        ("", "start:difficulty pairs"), ("12", "start:difficulty"), ("0:2-12,", "has \"\""),
        ("0:12-2", "has \"0:12-2\""),
        ("0:0", "has \"0:0\""), ("0:2-", "has \"0:2-\""), ("0:1-2-3", "has \"0:1-2-3\""), ("0:10001", "0:10001"),
        ("0:2,101%:3", "101%"), ("0:2,-1:3", "-1:3"), ("5:2", "begins at 5"), ("50%:2", "begins at 50%"),
        ("0:2,9:3,9:4", "step 9 after step 9"), ("0:2,%:3", "%:3"), ("0:2,nan%:3", "nan%"),
    ]) func malformedOnesAreRefused(text: String, message: String) {
        #expect {
            try Lessons(text)
        } throws: { "\($0)".contains(message) }
    }

    /// By steps at their step; by accuracy at the end of a hundred steps that reach it, counted within the lesson.
    @Test func lessonsFollowStepsAndAccuracy() throws {
        let lessons = try Lessons("0:1,50:2,90%:3,500:4")
        var progress = LessonProgress()
        var changes: [Int] = []
        for step in 1...600 {
            let before = progress.lesson
            // Nine tenths right from step 170 on: the hundred steps from 151 to 250 have too few.
            progress.note(correct: step > 170 ? 9 : 0, of: 10, step: step, lessons)
            if progress.lesson != before { changes.append(step) }
        }
        #expect(changes == [50, 350, 500] && progress.lesson == 3)
        var nothing = LessonProgress(lesson: 1)
        for step in 51...400 { nothing.note(correct: 0, of: 0, step: step, lessons) }
        #expect(nothing.lesson == 1)
    }

    @Test func lessonsNeedATaskThatHasThem() throws {
        struct Plain: SequenceTask {
            let name = "plain"
            let summary = ""
            let symbols = ["a", "b"]
            func sequence(using random: inout RandomSource) -> TaskSequence {
                TaskSequence(tokens: [0, 0], answers: [-1, 1])
            }
        }
        var configuration = smallConfiguration()
        configuration.lessons = try Lessons("0:2-5")
        let text = try TextCorpus(name: "small", text: smallText)
        func expectRefusal(_ corpus: some Corpus, _ message: String) {
            #expect {
                try Trainer(configuration, corpus: corpus)
            } throws: { "\($0)".contains(message) }
        }
        expectRefusal(text, "lessons is for a task")
        expectRefusal(TaskCorpus(Plain(), training: 5, validation: 5, test: 5), "plain has no difficulties")
        configuration.sequences = 10
        expectRefusal(TaskCorpus.all[0], "lessons is for a task's fresh sequences")
        (configuration.sequences, configuration.lessons, configuration.length) = (nil, nil, .epochs(1))
        expectRefusal(TaskCorpus.all[0], "fresh sequences have no epochs")
    }

    /// What is measured is the standard task, whatever the lesson; training sees the lesson, and learns from hints where asked.
    @Test func validationStaysTheStandardTask() throws {
        var configuration = smallConfiguration()
        configuration.lessons = try Lessons("0:1-3,10:5")
        let corpus = TaskCorpus(VariableAssignment(variables: 2), training: 1, validation: 3, test: 1)
        let trainer = try Trainer(configuration, corpus: corpus)
        let standard = try corpus.stream(.validation, trainer.tokenizer).targets.count { $0 >= 0 }
        #expect(try trainer.validate().tokens == standard && trainer.difficulty == 1...3)
        var targets = 0
        for _ in 0..<12 { targets += try trainer.trainStep().tokens }
        #expect(trainer.difficulty == 5...5)
        #expect(try trainer.validate().tokens == standard)
        configuration.hints = true
        let hinted = try Trainer(configuration, corpus: corpus)
        #expect(try (0..<12).reduce(0) { sum, _ in sum + (try hinted.trainStep().tokens) } > 2 * targets)
    }
}
