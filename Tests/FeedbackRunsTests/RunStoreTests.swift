import FeedbackTraining
import FeedbackTransformer
import Foundation
import GRDB
import Synchronization
import Testing

@testable import FeedbackRuns

/// A folder for one test's history, and small runs to enter into it.
final class Place: Sendable {
    let url = FileManager.default.temporaryDirectory.appending(path: "feedback-runs-\(UUID().uuidString)")
    var history: URL { url.appending(path: "data/runs.sqlite") }

    init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(at: url) }

    func store() throws -> RunStore { try RunStore(at: history) }

    /// A small run of a few steps.
    func train(
        _ name: String, steps: Int = 12, stopAt: Int? = nil, resume: Bool = false,
        report: (TrainingEvent) -> Void = { _ in }
    ) throws -> RunRecorder {
        let text = String(repeating: "to be or not to be, that is it. ", count: 40)
        let corpus = try TextCorpus(name: "small", text: text)
        var configuration = RunConfiguration()
        (configuration.layers, configuration.dModel, configuration.heads, configuration.dFF) = (2, 16, 2, 32)
        (configuration.sequenceLength, configuration.batchSize, configuration.threads) = (8, 2, 1)
        (configuration.length, configuration.evalInterval) = (.steps(steps), 5)
        (configuration.sampleInterval, configuration.checkpointInterval) = (6, 4)
        let url = url.appending(path: name)
        let folder = try resume ? RunFolder(opening: url) : RunFolder(creating: url, configuration: configuration)
        let trainer =
            try resume ? Trainer(resuming: folder, corpus: corpus) : Trainer(configuration, corpus: corpus)
        let recorder = try RunRecorder(store(), trainer, folder: url) { Issue.record("\($0)") }
        let ending = try trainer.run(in: folder) { event in
            report(event)
            recorder.record(event, layerWeights: trainer.model.layerWeights)
        } shouldStop: {
            trainer.step == stopAt
        }
        recorder.end(ending == .stopped ? .interrupted : .finished)
        return recorder
    }
}

@Suite struct RunStoreTests {
    @Test func remembersEverythingThatHappened() throws {
        let place = try Place()
        var events: [TrainingEvent] = []
        let recorder = try place.train("first") { events.append($0) }
        let store = try place.store()
        let run = try store.run("first")
        #expect(run.id == recorder.id && run.status == .finished && run.state() == .finished)
        #expect(run.step == 12 && run.totalSteps == 12 && run.ended != nil && run.failure == nil)
        #expect(run.configuration["d-model"] == "16" && run.configuration["steps"] == "12")
        #expect(!run.machine.isEmpty && run.folder == place.url.appending(path: "first").standardizedFileURL.path)
        #expect(try store.run("\(recorder.id)") == run && store.run(run.folder) == run)

        let metrics = try store.metrics(recorder.id)
        var (steps, validations, samples, checkpoints) = (0, 0, 0, 0)
        for event in events {
            switch event {
            case .step(let step):
                let row = metrics.steps[steps]
                #expect(row.step == step.number && row.loss == step.loss && row.gradientNorm == step.gradientNorm)
                #expect(row.learningRate == step.learningRate && row.seconds == step.seconds)
                #expect(row.accuracy == step.accuracy && row.tokens == step.tokens)
                steps += 1
            case .validation(let step, let evaluation):
                let row = metrics.validations[validations]
                #expect(row.step == step && row.loss == evaluation.loss && row.tokens == evaluation.tokens)
                #expect(row.layerWeights?.count == 3 && abs(row.layerWeights!.reduce(0, +) - 1) < 1e-9)
                validations += 1
            case .sample(let step, let text):
                #expect(metrics.samples[samples].step == step && metrics.samples[samples].text == text)
                samples += 1
            case .checkpoint(let step, let url):
                let row = metrics.checkpoints[checkpoints]
                #expect(row.step == step && row.path == url.standardizedFileURL.path)
                checkpoints += 1
            case .warning: continue
            }
        }
        #expect([steps, validations, samples, checkpoints].min()! > 0)
        #expect(steps == metrics.steps.count && validations == metrics.validations.count)
        #expect(samples == metrics.samples.count && checkpoints == metrics.checkpoints.count)
        #expect(run.loss == metrics.steps.last?.loss && run.validation == metrics.validations.last?.loss)
        #expect(run.bestValidation == metrics.validations.map(\.loss).min())
        #expect(try store.metrics(recorder.id, after: 9).steps.map(\.step) == [10, 11, 12])
    }

    /// A run that goes on is the same run; what it does again is there once.
    @Test func goesOnWithARun() throws {
        let place = try Place()
        let first = try place.train("run", stopAt: 7)
        let store = try place.store()
        #expect(try store.run("run").status == .interrupted)
        try store.write { db in
            try db.execute(
                sql: """
                    INSERT INTO steps SELECT run, 8, time, loss, accuracy, learningRate, gradientNorm, seconds, tokens
                    FROM steps WHERE step = 7
                    """)
        }
        let created = try store.run("run").created
        let second = try place.train("run", resume: true)
        #expect(second.id == first.id)
        #expect(try store.metrics(first.id).steps.map(\.step) == Array(1...12))
        let run = try store.run("run")
        #expect(run.status == .finished && run.created == created)
        // Another run in a folder of that name is another run.
        try FileManager.default.removeItem(at: place.url.appending(path: "run"))
        #expect(try place.train("run").id > first.id)
        #expect(try store.runs().count == 2)
    }

    @Test func longRunsAreThinned() throws {
        let place = try Place()
        let run = try place.train("run", steps: 1).id
        let store = try place.store()
        try store.write { db in
            try db.execute(
                sql: """
                    WITH RECURSIVE numbers(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM numbers WHERE i < 10001)
                    INSERT INTO steps SELECT run, i, time, loss, accuracy, learningRate, gradientNorm, seconds, tokens
                    FROM numbers, steps WHERE step = 1
                    """)
        }
        let steps = try store.metrics(run, most: 4000).steps.map(\.step)
        #expect(steps == Array(stride(from: 2, through: 10_001, by: 3)))
        #expect(try store.metrics(run, after: 9_998, most: 4000).steps.map(\.step) == [9_999, 10_000, 10_001])
        #expect(try store.metrics(run).steps.count == 10_001)
    }

    /// Somebody else's database is left as it is.
    @Test func otherDatabasesAreRefused() throws {
        let place = try Place()
        let file = place.url.appending(path: "other.sqlite")
        try DatabaseQueue(path: file.path).write { try $0.execute(sql: "CREATE TABLE songs (name TEXT)") }
        let before = try Data(contentsOf: file)
        let error = #expect(throws: RunStoreError.self) { _ = try RunStore(at: file) }
        #expect(error?.description.contains("a database of something else") == true)
        #expect(try Data(contentsOf: file) == before)
    }

    @Test func severalWriteAtOnce() throws {
        let place = try Place()
        let queue = OperationQueue()
        let failures = Mutex<[String]>([])
        for index in 0..<4 {
            queue.addOperation {
                do { _ = try place.train("run-\(index)", steps: 40) } catch {
                    failures.withLock { $0.append("\(error)") }
                }
            }
        }
        queue.waitUntilAllOperationsAreFinished()
        let said = failures.withLock { $0 }
        #expect(said.isEmpty, "\(said)")
        let store = try place.store()
        for run in try store.runs() { #expect(try store.metrics(run.id!).steps.map(\.step) == Array(1...40)) }
        #expect(try store.runs().count == 4)
    }

    @Test func tellsWhoHasCrashed() throws {
        let place = try Place()
        _ = try place.train("run")
        var run = try place.store().run("run")
        run.status = .running
        RunFile(began: run.created).write(to: place.url.appending(path: "run"))
        #expect(run.state() == .running)
        #expect(run.state(at: Date(timeIntervalSince1970: run.updated + 61)) == .crashed)
        let child = Process()
        child.executableURL = URL(filePath: "/bin/sh")
        child.arguments = ["-c", "exit 0"]
        try child.run()
        child.waitUntilExit()
        run.process = child.processIdentifier
        #expect(run.state() == .crashed)
        run.host = "elsewhere"
        #expect(run.state(at: Date(timeIntervalSince1970: run.updated + 5)) == .running)
        run.status = .finished
        #expect(run.state() == .finished)
    }

    @Test func deletesWhatIsNotRunning() throws {
        let place = try Place()
        _ = try place.train("one")
        _ = try place.train("two")
        let store = try place.store()
        var running = try store.run("two")
        running.status = .running
        #expect(throws: RunStoreError.self) { try store.delete(running) }
        let one = try store.run("one")
        try store.delete(one)
        #expect(try store.runs().map(\.name) == ["two"])
        #expect(try store.metrics(one.id!) == RunMetrics())
        #expect(throws: RunStoreError.self) { try store.run("one") }
    }

    /// What the first feedbacks wrote, which knew of no migrations, keeps its runs; they can still read what is written now.
    @Test func firstHistoriesAreKept() throws {
        let place = try Place()
        let run = try place.train("run").id
        let metrics = try place.store().metrics(run)
        try place.store().write { try $0.execute(sql: "DROP TABLE grdb_migrations") }
        #expect(try place.store().metrics(run) == metrics)
        let version = try place.store().read { try Int.fetchOne($0, sql: "PRAGMA user_version") }
        #expect(version == 1)
        #expect(try place.train("another").id == run + 1)
    }

    @Test func severalBeginAHistory() throws {
        let place = try Place()
        let failures = Mutex<[String]>([])
        DispatchQueue.concurrentPerform(iterations: 8) { _ in
            do { _ = try place.store().runs() } catch { failures.withLock { $0.append("\(error)") } }
        }
        let said = failures.withLock { $0 }
        #expect(said.isEmpty, "\(said)")
    }

    @Test func filesThatAreNoHistoryAreRefused() throws {
        let place = try Place()
        let text = place.url.appending(path: "text")
        try Data(repeating: 0x20, count: 200).write(to: text)
        #expect {
            try RunStore(at: text)
        } throws: { "\($0)".contains("text: ") && "\($0)".contains("--runs") }
        #expect(throws: RunStoreError.self) { try RunStore(at: text.appending(path: "below/runs.sqlite")) }
        _ = try place.store().write { try $0.execute(sql: "PRAGMA user_version = 99") }
        #expect {
            try place.store()
        } throws: { "\($0)".contains("later version") }
        let later = place.url.appending(path: "later.sqlite")
        _ = try RunStore(at: later).write { try $0.execute(sql: "INSERT INTO grdb_migrations VALUES ('2')") }
        #expect {
            try RunStore(at: later)
        } throws: { "\($0)".contains("later version") }
    }

    @Test func placeOfTheHistory() {
        #expect(RunStore.defaultURL(["FEEDBACK_RUNS": "/a/b.sqlite", "HOME": "/h"]).path == "/a/b.sqlite")
        #expect(RunStore.defaultURL(["XDG_DATA_HOME": "/x", "HOME": "/h"]).path == "/x/feedback/runs.sqlite")
        #expect(RunStore.defaultURL(["HOME": "/h"]).path == "/h/.local/share/feedback/runs.sqlite")
    }

    /// Where the history cannot be written, training goes on, and says so once.
    @Test func complainsOnce() throws {
        let place = try Place()
        let corpus = try TextCorpus(name: "small", text: String(repeating: "to be or not to be. ", count: 40))
        var configuration = RunConfiguration()
        (configuration.layers, configuration.dModel, configuration.heads, configuration.dFF) = (1, 8, 1, 8)
        (configuration.sequenceLength, configuration.batchSize, configuration.length) = (4, 1, .steps(3))
        let trainer = try Trainer(configuration, corpus: corpus)
        let store = try place.store()
        let complaints = Mutex<[String]>([])
        let recorder = try RunRecorder(store, trainer, folder: place.url.appending(path: "run")) { complaint in
            complaints.withLock { $0.append(complaint) }
        }
        try store.write { try $0.execute(sql: "ALTER TABLE steps RENAME TO gone") }
        try trainer.run { recorder.record($0) }
        recorder.flush()
        recorder.flush()
        let said = complaints.withLock { $0 }
        #expect(said.count == 1 && said[0].contains("training goes on"))
        // What could not be written is written as soon as it can be.
        try store.write { try $0.execute(sql: "ALTER TABLE gone RENAME TO steps") }
        recorder.end(.finished)
        #expect(try store.metrics(recorder.id).steps.map(\.step) == [1, 2, 3])
    }
}
