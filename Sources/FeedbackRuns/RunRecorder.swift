import Dispatch
import FeedbackTraining
import FeedbackTransformer
import Foundation
import GRDB
import Synchronization

/// Writes a training run into the history while it trains, on a thread of its own, twice a second: a step only leaves its
/// numbers, and a process that is killed loses at most what came since.
///
/// ```swift
/// let recorder = try RunRecorder(store, trainer, folder: folder.url)
/// let ending = try trainer.run(in: folder) { event in recorder.record(event) }
/// recorder.end(ending == .stopped ? .interrupted : .finished)
/// ```
public final class RunRecorder: @unchecked Sendable {  // its timer is only ever cancelled
    /// The run's id in the history.
    public let id: Int64
    private let store: RunStore
    private let folder: URL
    private let pending: Mutex<Pending>
    private let queue = DispatchQueue(label: "run history")
    private let timer: any DispatchSourceTimer
    private let complain: @Sendable (String) -> Void

    /// What has happened since the history was last written, and the run as it is then.
    private struct Pending {
        var run: Run
        var metrics = RunMetrics()
        var complained = false
    }

    /// Enters a run that begins, or that goes on, be its folder where it was or elsewhere: then what the history has of
    /// later steps goes.
    ///
    /// `complain` is called once where the history cannot be written; training goes on.
    public init(
        _ store: RunStore, _ trainer: Trainer, folder: URL, complain: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(RunStoreError) {
        let path = folder.standardizedFileURL.path
        let now = Date().timeIntervalSince1970
        var run = Run(
            name: folder.standardizedFileURL.lastPathComponent, folder: path, status: .running,
            configuration: trainer.configuration.settings, revision: revision(), machine: machine(),
            host: ProcessInfo.processInfo.hostName, process: getpid(), created: now, updated: now, step: trainer.step,
            totalSteps: trainer.totalSteps, bestValidation: trainer.best?.loss)
        run = try store.write { [run] db in
            var run = run
            guard run.step > 0, let known = try Self.known(db, folder, began: &run.created) else {
                try run.insert(db)
                return run
            }
            (run.id, run.created, run.revision) = (known.id, known.created, known.revision ?? run.revision)
            try db.execute(
                sql: "UPDATE checkpoints SET path = ? || SUBSTR(path, ?) WHERE run = ?",
                arguments: [path, known.folder.unicodeScalars.count + 1, run.id])
            for table in ["steps", "validations", "samples", "checkpoints"] {
                try db.execute(
                    sql: "DELETE FROM \(table) WHERE run = ? AND step > ?", arguments: [run.id, run.step])
            }
            func last(_ table: String) throws -> Double? {
                try Double.fetchOne(
                    db, sql: "SELECT loss FROM \(table) WHERE run = ? ORDER BY step DESC", arguments: [run.id])
            }
            (run.loss, run.validation) = (try last("steps"), try last("validations"))
            run.tokensPerSecond = known.tokensPerSecond
            try run.update(db)
            return run
        }
        RunFile(began: run.created).write(to: folder)
        id = run.id!
        self.folder = folder
        self.store = store
        self.complain = complain
        pending = Mutex(Pending(run: run))
        timer = DispatchSource.makeTimerSource(queue: queue)
        timer.schedule(deadline: .now() + 0.5, repeating: 0.5)
        timer.setEventHandler { [weak self] in self?.write() }
        timer.activate()
    }

    deinit { timer.cancel() }

    /// The run that a folder says it is, also where it has been moved; of one that says nothing, the last that was
    /// there. A copy of a folder that is still there is a run of its own.
    ///
    /// - Parameter began: becomes when the run began, where the folder says so and is no copy.
    private static func known(_ db: Database, _ folder: URL, began: inout Double) throws -> Run? {
        let path = folder.standardizedFileURL.path
        guard let file = RunFile(of: folder) else {
            return try Run.fetchOne(db, sql: "SELECT * FROM runs WHERE folder = ? ORDER BY id DESC", arguments: [path])
        }
        let run = try Run.fetchOne(db, sql: "SELECT * FROM runs WHERE created = ?", arguments: [file.began])
        if let run, run.folder != path, RunFile(of: URL(filePath: run.folder))?.began == file.began { return nil }
        began = file.began
        return run
    }

    /// Takes note of what has happened, to be written soon.
    ///
    /// - Parameters:
    ///   - event: of the training.
    ///   - layerWeights: softmax(w) at a validation.
    public func record(_ event: TrainingEvent, layerWeights: @autoclosure () -> [Double]? = nil) {
        let now = Date().timeIntervalSince1970
        switch event {
        case .step(let step):
            pending.withLock { pending in
                pending.metrics.steps.append(
                    RunMetrics.Step(
                        run: id, step: step.number, time: now, loss: step.loss, accuracy: step.accuracy,
                        learningRate: step.learningRate, gradientNorm: step.gradientNorm, seconds: step.seconds,
                        tokens: step.tokens))
                let speed = Double(step.tokens) / step.seconds
                pending.run.tokensPerSecond = pending.run.tokensPerSecond.map { 0.95 * $0 + 0.05 * speed } ?? speed
                (pending.run.step, pending.run.loss) = (step.number, step.loss)
            }
        case .validation(let step, let evaluation):
            let weights = layerWeights()
            pending.withLock { pending in
                pending.metrics.validations.append(
                    RunMetrics.Validation(
                        run: id, step: step, time: now, loss: evaluation.loss,
                        bitsPerCharacter: evaluation.bitsPerCharacter, perplexity: evaluation.perplexity,
                        accuracy: evaluation.accuracy, tokens: evaluation.tokens, layerWeights: weights))
                pending.run.validation = evaluation.loss
                pending.run.bestValidation = min(pending.run.bestValidation ?? .infinity, evaluation.loss)
            }
            writeSoon()
        case .sample(let step, let text):
            pending.withLock {
                $0.metrics.samples.append(RunMetrics.Sample(run: id, step: step, time: now, text: text))
            }
            writeSoon()
        case .checkpoint(let step, let url):
            let path = url.standardizedFileURL.path
            pending.withLock {
                $0.metrics.checkpoints.append(RunMetrics.Checkpoint(run: id, step: step, time: now, path: path))
            }
            writeSoon()
        case .warning: break
        }
    }

    /// A run that is killed goes on from its newest checkpoint, and does not tell again of what came before it.
    private func writeSoon() { queue.async { self.write() } }

    /// Writes what is left, and how the run has ended.
    public func end(_ status: Run.Status, failure: String? = nil) {
        timer.cancel()
        let began = pending.withLock {
            ($0.run.status, $0.run.failure, $0.run.ended) = (status, failure, Date().timeIntervalSince1970)
            return $0.run.created
        }
        flush()
        RunFile(began: began, status: status).write(to: folder)
    }

    /// Writes what is pending now.
    func flush() { queue.sync { write() } }

    /// Writes what is pending; on the queue. What cannot be written stays pending; of a run that somebody has deleted, nothing
    /// does.
    private func write() {
        let (run, metrics) = pending.withLock { pending in
            pending.run.updated = Date().timeIntervalSince1970
            defer { pending.metrics = RunMetrics() }
            return (pending.run, pending.metrics)
        }
        do {
            try store.write { db in
                guard try run.exists(db) else { return timer.cancel() }
                try run.update(db)
                for row in metrics.steps { try row.insert(db, onConflict: .replace) }
                for row in metrics.validations { try row.insert(db, onConflict: .replace) }
                for row in metrics.samples { try row.insert(db, onConflict: .replace) }
                for row in metrics.checkpoints { try row.insert(db, onConflict: .replace) }
            }
        } catch {
            let isFirst = pending.withLock { pending in
                pending.metrics = RunMetrics(
                    steps: metrics.steps + pending.metrics.steps,
                    validations: metrics.validations + pending.metrics.validations,
                    samples: metrics.samples + pending.metrics.samples,
                    checkpoints: metrics.checkpoints + pending.metrics.checkpoints)
                defer { pending.complained = true }
                return !pending.complained
            }
            if isFirst { complain("\(error); training goes on") }
        }
    }
}
