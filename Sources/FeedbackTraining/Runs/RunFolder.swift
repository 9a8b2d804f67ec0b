import FeedbackTransformer
import Foundation

/// A run on disk: `config.yaml`, `metrics.jsonl`, and `checkpoints/step-N`, each a model folder that also has what
/// training needs to go on; `checkpoints/best` and `checkpoints/last` are links to two of them.
public final class RunFolder {
    public let url: URL
    private var metrics: FileHandle?
    private let encoder = JSONEncoder()
    private var checkpoints: URL { url.appending(path: "checkpoints") }

    /// A new run's folder, taken until `end`. Throws where the folder already holds something, but for a run that ended before
    /// it had saved anything.
    public init(creating url: URL, configuration: RunConfiguration) throws {
        self.url = url
        func check() throws {
            let contents = (try? FileManager.default.contentsOfDirectory(atPath: url.path)) ?? []
            guard Self.steps(in: checkpoints).isEmpty,
                Set(contents).isSubset(of: ["config.yaml", "metrics.jsonl", "run.json", "checkpoints"])
            else {
                throw FileError(
                    "\(url.path) is not empty; choose another --output, or go on with its run by --resume \(url.path)")
            }
        }
        try check()
        do {
            try FileManager.default.createDirectory(at: checkpoints, withIntermediateDirectories: true)
        } catch {
            throw FileError("cannot create \(url.path): \(reason(error))")
        }
        // Of several that begin here at once, one has the folder, and its configuration is what is in it.
        try lock()
        do {
            try check()
            try write(configuration)
        } catch {
            end()
            throw error
        }
    }

    /// Writes `config.yaml`, whole or not at all.
    func write(_ configuration: RunConfiguration) throws {
        let (file, temporary) = (url.appending(path: "config.yaml"), checkpoints.appending(path: ".config.yaml.new"))
        let yaml = try configuration.yaml()
        try writeFile(temporary) { try $0.write(contentsOf: Data(yaml.utf8)) }
        try moveFile(temporary, to: file)
        try synchronizeFolder(url)
    }

    /// The folder of the run that a path means: the run's own folder, or that of one of its checkpoints; nil where it is of no
    /// run.
    public static func run(of path: URL) throws -> RunFolder? {
        let path = path.resolvingSymlinksInPath()
        for folder in [path, path.deletingLastPathComponent().deletingLastPathComponent()]
        where FileManager.default.fileExists(atPath: folder.appending(path: "config.yaml").path) {
            let isCheckpoint = path.deletingLastPathComponent().lastPathComponent == "checkpoints"
            if folder == path || isCheckpoint { return try RunFolder(opening: folder) }
        }
        return nil
    }

    /// A run's folder that is there.
    public init(opening url: URL) throws {
        self.url = url
        guard FileManager.default.fileExists(atPath: url.appending(path: "config.yaml").path) else {
            let run = try Self.run(of: url)
            throw FileError(
                "\(url.path) is not a run: it has no config.yaml"
                    + (run.map { "; it is a checkpoint of \($0.url.path), which goes on from its newest" } ?? ""))
        }
    }

    /// What settings were that runs from before these settings do not name.
    static let before = ["memory-norm": "none", "sequences": "10000"]

    /// The run's own configuration.
    public func configuration() throws -> RunConfiguration {
        var configuration = RunConfiguration()
        for (name, text) in Self.before { try Setting.named(name).set(text, in: &configuration) }
        try configuration.apply(contentsOf: url.appending(path: "config.yaml"))
        return configuration
    }

    // MARK: Checkpoints

    /// The newest checkpoint of a run, if it has one.
    public static func newestCheckpoint(of run: URL) -> URL? {
        steps(in: run.appending(path: "checkpoints")).last?.url
    }

    /// The checkpoint of the lowest validation loss, if a run has one.
    public static func bestCheckpoint(of run: URL) -> URL? {
        let checkpoints = run.appending(path: "checkpoints")
        let link = checkpoints.appending(path: "best").path
        guard let name = try? FileManager.default.destinationOfSymbolicLink(atPath: link) else { return nil }
        return steps(in: checkpoints).first { $0.url.lastPathComponent == name }?.url
    }

    /// The checkpoints' steps, first to last.
    private static func steps(in checkpoints: URL) -> [(step: Int, url: URL)] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: checkpoints.path)) ?? []
        return names.compactMap { name in
            guard name.hasPrefix("step-"), let step = Int(name.dropFirst(5)) else { return nil }
            return (step, checkpoints.appending(path: name))
        }.sorted { $0.0 < $1.0 }
    }

    /// Reads a checkpoint; where its files are damaged, says from which one before the run can go on.
    func withRemedy<Value>(_ checkpoint: URL, _ read: () throws -> Value) throws -> Value {
        do { return try read() } catch {
            guard error is FileError || error is SafetensorsError || error is TokenizerError else { throw error }
            let older = Self.steps(in: checkpoints).last { $0.url != checkpoint }
            let remedy = older.map { "move \(checkpoint.path) away to go on from step \($0.step)" }
            throw FileError("\(error); \(remedy ?? "the run has no other checkpoint: begin anew")")
        }
    }

    /// Saves a checkpoint, whole or not at all, then removes those that are neither the best nor among the newest.
    func save(_ trainer: Trainer, _ collected: Trainer.Collected) throws -> URL {
        try metrics?.synchronize()
        let folder = checkpoint(trainer.step)
        try writeFolder(folder) { temporary in
            try trainer.write(collected, into: temporary)
            try makeLink("last", to: folder)
        } whenThere: {
            try placeLink("last")
        }
        try tidy(trainer)
        return folder
    }

    /// Links to the newest and to the best checkpoint, and removes those that are kept no longer. What checkpoints there are,
    /// and which is the newest, their folders alone say, which appear whole; a run may have been killed before its links.
    private func tidy(_ trainer: Trainer) throws {
        guard let newest = Self.steps(in: checkpoints).last else { return }
        try link("last", to: newest.url)
        if let best = trainer.best.map({ checkpoint($0.step) }), FileManager.default.fileExists(atPath: best.path) {
            try link("best", to: best)
        }
        try synchronizeFolder(checkpoints)
        for (step, old) in Self.steps(in: checkpoints).dropLast(trainer.configuration.keep)
        where step != trainer.best?.step {
            // Under another name: what is killed half-way through must not leave a part of a checkpoint.
            let removed = checkpoints.appending(path: ".\(old.lastPathComponent).old")
            if rename(old.path, removed.path) == 0 { try? FileManager.default.removeItem(at: removed) }
        }
    }

    private func checkpoint(_ step: Int) -> URL {
        checkpoints.appending(path: String(format: "step-%08ld", step))
    }

    /// A link beside the checkpoints, which is there at every moment, to the old or to the new one.
    private func link(_ name: String, to checkpoint: URL) throws(FileError) {
        try makeLink(name, to: checkpoint)
        try placeLink(name)
    }

    private func makeLink(_ name: String, to checkpoint: URL) throws(FileError) {
        unlink(newLink(name).path)
        guard symlink(checkpoint.lastPathComponent, newLink(name).path) == 0 else {
            throw .system("cannot write \(checkpoints.path)/\(name)")
        }
    }

    private func placeLink(_ name: String) throws(FileError) {
        try moveFile(newLink(name), to: checkpoints.appending(path: name))
    }

    private func newLink(_ name: String) -> URL { checkpoints.appending(path: ".\(name).new") }

    // MARK: Training

    /// Takes the folder, until `end`: no other process may train in it meanwhile.
    public func lock() throws {
        if metrics != nil { return }
        let file = url.appending(path: "metrics.jsonl")
        let descriptor = open(file.path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw FileError.system("cannot write \(file.path)") }
        let metrics = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
        // Who only looks whether the folder is taken holds it for a moment.
        var attempts = 5
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            attempts -= 1
            guard attempts > 0 else {
                throw FileError("\(url.path) is being trained by another process; wait for it or stop it")
            }
            usleep(10_000)
        }
        self.metrics = metrics
    }

    /// Whether a process has taken a run's folder, be it that it trains or that it has been stopped (SIGSTOP).
    public static func isTaken(_ run: URL) -> Bool {
        let descriptor = open(run.appending(path: "metrics.jsonl").path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        return flock(descriptor, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK
    }

    /// Opens the folder for a trainer at some step: metrics of later steps, which a run that was killed may have left behind,
    /// go.
    func begin(_ trainer: Trainer) throws {
        let step = trainer.step
        try lock()
        let file = url.appending(path: "metrics.jsonl")
        struct Head: Decodable { let step: Int }
        var kept = 0
        for line in try readRegularFile(file).split(separator: 0x0a, omittingEmptySubsequences: false).dropLast() {
            guard let head = try? JSONDecoder().decode(Head.self, from: line), head.step <= step else { break }
            kept += line.count + 1
        }
        do { try metrics!.truncate(atOffset: UInt64(kept)) } catch {
            throw FileError("cannot write \(file.path): \(reason(error))")
        }
        let names = (try? FileManager.default.contentsOfDirectory(atPath: checkpoints.path)) ?? []
        for name in names where name.hasPrefix(".") {
            try? FileManager.default.removeItem(at: checkpoints.appending(path: name))
        }
        try tidy(trainer)
        encoder.outputFormatting = [.sortedKeys]
    }

    /// Lets go of the folder, also where a child that is just being started has the file too.
    public func end() {
        if let metrics { flock(metrics.fileDescriptor, LOCK_UN) }
        metrics = nil
    }

    // MARK: Metrics

    private struct Line: Encodable {
        var time = Date().timeIntervalSince1970
        var step: Int
        var loss, accuracy, learningRate, gradientNorm, seconds: Double?
        var validation: Evaluation?
        var sample: String?
        var warning: String?
    }

    /// Adds a line to `metrics.jsonl`.
    func record(_ event: TrainingEvent) throws {
        let line: Line
        switch event {
        case .step(let step):
            line = Line(
                step: step.number, loss: step.loss, accuracy: step.accuracy, learningRate: step.learningRate,
                gradientNorm: step.gradientNorm,
                seconds: step.seconds)
        case .validation(let step, let evaluation): line = Line(step: step, validation: evaluation)
        case .sample(let step, let text): line = Line(step: step, sample: text)
        case .checkpoint: return
        case .warning(let step, let text): line = Line(step: step, warning: text)
        }
        do {
            try metrics?.write(contentsOf: try encoder.encode(line) + Data("\n".utf8))
        } catch {
            throw FileError("cannot write \(url.path)/metrics.jsonl: \(reason(error))")
        }
    }
}
