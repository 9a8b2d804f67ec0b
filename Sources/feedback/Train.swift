import ArgumentParser
import FeedbackRuns
import FeedbackTraining
import FeedbackTransformer
import Foundation

struct Train: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Trains a model on a text or a task.",
        discussion: """
            Prints the last checkpoint's folder, from which `feedback generate` and `feedback evaluate` work.

            Examples:
              feedback train --preset demo
              feedback train --preset nanogpt-cpu --memory per-layer --output runs/parallel
              feedback train --data novel.txt --layers 6 --d-model 256 --heads 8
              feedback train --preset programs --data variables-5 --memory-window 128
              feedback train --data reverse --lessons 0:1-5,95%:1-20
              feedback train --resume runs/parallel

            A RUN or MODEL is a folder, or a run's id or name as `feedback runs` lists it. Defaults are those without \
            a preset. The first Ctrl-C finishes the step, saves and stops; the second stops at once.
            """)

    @Option(help: "Where to start from.")
    var preset: RunConfiguration.Preset?

    @Option(
        name: .customLong("config"), help: ArgumentHelp("A YAML file of settings.", valueName: "file"),
        completion: .file(extensions: ["yaml", "yml"]))
    var file: String?

    @Option(
        help: ArgumentHelp(
            "Go on with a run, from its newest checkpoint, in its own configuration.", valueName: "run"),
        completion: .runs)
    var resume: String?

    @Option(
        help: ArgumentHelp(
            "Begin with a trained model's parameters, and so in its sizes; of a run, with its best checkpoint's.",
            valueName: "model"),
        completion: .runs)
    var `init`: String?

    @Option(
        help: ArgumentHelp("The run's folder; a new one in runs/ by default.", valueName: "folder"),
        completion: .directory)
    var output: String?

    @Option(
        help: ArgumentHelp(
            "Save and stop after so long, such as 90s, 10m or 1h30m; --resume goes on.", valueName: "time"))
    var maxTime: TimeSpan?

    @Option(
        help: ArgumentHelp(
            "Also write event files for TensorBoard, in a folder of the run's name.", valueName: "folder"),
        completion: .directory)
    var tensorboard: String?

    @Flag(inversion: .prefixedNo, help: "Enter the run into the run history: see feedback runs.")
    var record = true

    @Flag(help: "Print no progress.")
    var quiet = false

    @OptionGroup
    var history: HistoryOptions

    @OptionGroup(title: "Settings")
    var settings: SettingOptions

    func validate() throws {
        if resume != nil, preset != nil || file != nil || output != nil || `init` != nil {
            throw ValidationError(
                "--resume takes the run's own configuration; leave out --preset, --config, --init and --output")
        }
    }

    func run() async throws {
        let ranks = try Ranks.start()
        do { try await run(ranks) } catch { try ranks.fail(error) }
    }

    /// One rank's part: the first alone writes and tells.
    private func run(_ ranks: Ranks) async throws {
        try ranks.checkProgram()
        let start = ContinuousClock.now
        let quiet = quiet || !ranks.isFirst
        var console = Console(quiet: quiet)
        let store = record && ranks.isFirst ? try ifPossible(&console) { try history.store() } : nil
        let (trainer, folder) = try await prepare(ranks, &console)
        defer { folder?.end() }
        let interruption = Interruption {
            var console = Console(quiet: quiet)
            console.print("\nfinishing the step and saving; Ctrl-C again stops at once")
        }
        var progress = TrainingProgress(trainer)
        if let folder { progress.begin(folder.url, ranks, console: &console) }
        let watchers = try folder.map { try Watchers(self, trainer, $0.url.standardizedFileURL, store, &console) }
        if watchers?.recorder != nil {
            let flag = history.path.map { " --runs \($0)" } ?? ""
            console.print("watch it in a browser: feedback serve --dashboard\(flag)")
        }
        let ending: Trainer.Ending
        do {
            ending = try trainer.run(in: folder) { event in
                progress.show(event, console: &console)
                watchers?.record(event, &console)
            } shouldStop: {
                interruption.signal != nil || maxTime.map { ContinuousClock.now - start >= $0.duration } ?? false
            }
        } catch {
            watchers?.recorder?.end(.failed, failure: "\(error)")
            if let folder, error is FileError, RunFolder.newestCheckpoint(of: folder.url) != nil {
                throw FileError(
                    "\(error); the last checkpoint is whole: when that is mended, go on with --resume "
                        + folder.url.relativePath)
            }
            throw error
        }
        watchers?.recorder?.end(ending == .stopped ? .interrupted : .finished)
        if let folder {
            progress.end(ending, folder.url, console: &console)
            // A reader that has gone away takes nothing from the run.
            if let newest = RunFolder.newestCheckpoint(of: folder.url) {
                do { try printResult(newest.relativePath) } catch is ExitCode {}
            }
        }
        ranks.finish()
        if ending == .stopped, let status = interruption.exitStatus { throw ExitCode(status) }
    }

    /// Something of the run history; nil where the usual one cannot be had: a run is worth more.
    fileprivate func ifPossible<Value>(_ console: inout Console, _ body: () throws -> Value) throws -> Value? {
        do { return try body() } catch {
            if history.path != nil { throw error }
            console.warn("\(error); training goes on without it")
            return nil
        }
    }

    /// The run as it begins or goes on, its folder taken: flags before environment before file before preset.
    private func prepare(_ ranks: Ranks, _ console: inout Console) async throws -> (Trainer, RunFolder?) {
        if let resume {
            let folder = try RunFolder(opening: try history.folder(of: resume))
            if ranks.isFirst { try folder.lock() }
            let own = try folder.configuration()
            var asked = own
            try settings.apply(to: &asked)
            try asked.makePathsAbsolute()
            for setting in Setting.all
            where setting.text(asked) != setting.text(own) && !Trainer.changeable.contains(setting.name) {
                throw ConfigurationError(
                    "the run \(resume) has \(setting.name) \(setting.text(own) ?? "unset"), not "
                        + "\(setting.text(asked) ?? "unset"); leave the flag out, or start a new run with --init")
            }
            let trainer = try Trainer(
                resuming: folder, corpus: try await load(asked, &console), asked: asked,
                communicator: ranks.communicator)
            for name in ["steps", "device", "threads"] {
                let setting = try Setting.named(name)
                guard let now = setting.text(trainer.configuration), now != setting.text(own) else { continue }
                console.print(
                    "\(name): \(now) from here on; further steps differ in their bits from those without the change")
            }
            return (trainer, ranks.isFirst ? folder : nil)
        }
        var configuration = preset.map(RunConfiguration.init(preset:)) ?? RunConfiguration()
        configuration.threads = ranks.cores
        let place = try `init`.map { try history.folder(of: $0) }
        let beginning = try place.map { try openModel($0) }
        if let (model, _) = beginning { configuration.takeSizes(of: model, at: place.map(modelFolder)) }
        if let file { try configuration.apply(contentsOf: URL(filePath: file)) }
        let environment = ProcessInfo.processInfo.environment
        try configuration.apply(environment: environment)
        for (name, nearest) in RunConfiguration.unknown(in: environment) where ranks.isFirst {
            console.warn("note: \(name) is no setting; did you mean \(nearest)?")
        }
        try settings.apply(to: &configuration)
        let fallback = configuration.settlePrecision()
        if let fallback { console.print(fallback) }
        if ranks.communicator.any(fallback != nil) { configuration.precision = .float32 }
        // A run can go on from anywhere.
        try configuration.makePathsAbsolute()
        let trainer = try Trainer(
            configuration, corpus: try await load(configuration, &console), communicator: ranks.communicator)
        if let asked = trainer.configuration.vocabularySize, trainer.tokenizer.vocabularySize < asked {
            console.print(
                "a vocabulary of \(grouped(trainer.tokenizer.vocabularySize)): no other pair of tokens is in the text twice"
            )
        }
        if let (model, note) = beginning {
            let (fresh, unused) = try trainer.initialize(from: model)
            if let note { console.print(note) }
            if !fresh.isEmpty { console.print("new parameters: \(fresh.joined(separator: ", "))") }
            if !unused.isEmpty { console.print("parameters without a place: \(unused.joined(separator: ", "))") }
        }
        let folder =
            ranks.isFirst ? try RunFolder(creating: outputFolder(), configuration: trainer.configuration) : nil
        // What it begins with, nothing else in the folder says.
        if beginning != nil { try trainer.save(in: folder) }
        return (trainer, folder)
    }

    private func outputFolder() throws -> URL {
        if let output { return URL(filePath: output) }
        let time = Date().formatted(
            .verbatim(
                "\(year: .defaultDigits)\(month: .twoDigits)\(day: .twoDigits)-\(hour: .twoDigits(clock: .twentyFourHour, hourCycle: .zeroBased))\(minute: .twoDigits)\(second: .twoDigits)",
                locale: Locale(identifier: "en_US_POSIX"), timeZone: .current,
                calendar: Calendar(identifier: .gregorian)))
        let name = "runs/\(preset?.rawValue ?? "train")-\(time)"
        do { try FileManager.default.createDirectory(atPath: "runs", withIntermediateDirectories: true) } catch {
            throw FileError("cannot create runs: \(reason(error))")
        }
        // Several may begin within a second.
        for number in 1...1000 {
            let path = number == 1 ? name : "\(name)-\(number)"
            if mkdir(path, 0o755) == 0 { return URL(filePath: path) }
            guard errno == EEXIST else { break }
        }
        throw FileError("cannot create \(name): \(String(cString: strerror(errno)))")
    }
}

/// Who else is told of what happens: the run history and TensorBoard. Training goes on where they cannot be written.
private final class Watchers {
    let recorder: RunRecorder?
    private var tensorBoard: TensorBoardWriter?
    private let trainer: Trainer

    init(_ command: Train, _ trainer: Trainer, _ folder: URL, _ store: RunStore?, _ console: inout Console) throws {
        self.trainer = trainer
        do {
            // Of one folder's runs TensorBoard makes one curve.
            tensorBoard = try command.tensorboard.map {
                try TensorBoardWriter(
                    folder: URL(filePath: $0).appending(path: folder.lastPathComponent), after: trainer.step)
            }
        } catch {
            console.warn("\(error); training goes on without TensorBoard's file")
        }
        let quiet = command.quiet
        recorder = try store.flatMap { store in
            try command.ifPossible(&console) {
                try RunRecorder(store, trainer, folder: folder) { complaint in
                    var console = Console(quiet: quiet)
                    console.warn(complaint)
                }
            }
        }
    }

    func record(_ event: TrainingEvent, _ console: inout Console) {
        recorder?.record(event, layerWeights: trainer.model.layerWeights)
        do { try tensorBoard?.record(event) } catch {
            console.warn("\(error); training goes on without TensorBoard's file")
            tensorBoard = nil
        }
    }
}

extension RunConfiguration.Preset: ExpressibleByArgument {}

/// Hours, minutes and seconds as people write them: 1h30m, 10m, 90s.
struct TimeSpan: ExpressibleByArgument {
    let duration: Duration

    init?(argument: String) {
        guard let match = argument.wholeMatch(of: /(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?/) else {
            return nil
        }
        let parts = [(match.1, 3600), (match.2, 60), (match.3, 1)]
        let seconds = parts.reduce(0) { $0 + (Int($1.0 ?? "") ?? 0) * $1.1 }
        guard seconds > 0 else { return nil }
        duration = .seconds(seconds)
    }
}

/// The corpus of a configuration.
func load(_ configuration: RunConfiguration, _ console: inout Console) async throws -> any Corpus {
    try await load(
        configuration.data, validation: configuration.validation, field: configuration.field, &console)
}

/// The corpus of a name or path, which tells how far it is where it takes long.
func load(
    _ data: String, validation: String? = nil, field: String? = nil, _ console: inout Console
) async throws -> any Corpus {
    let copy = console
    let found = try await corpus(named: data, validation: validation, field: field) { progress in
        var console = copy
        let left = progress.seconds * Double(progress.total - progress.done) / Double(max(1, progress.done))
        console.status(
            "\(progress.work.rawValue) \(data): \(grouped(progress.done)) of \(grouped(progress.total)) bytes, "
                + "\(duration(left)) left", worthKeeping: progress.done == progress.total)
        if progress.done == progress.total { console.clearStatus() }
    }
    console.clearStatus()
    return found
}
