import ArgumentParser
import FeedbackTraining
import FeedbackTransformer
import Foundation
import Logging

struct Train: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Trains a model on a text.",
        discussion: """
            Prints the last checkpoint's folder, from which `feedback generate` and `feedback evaluate` work.

            Examples:
              feedback train --preset demo
              feedback train --preset nanogpt-cpu --memory per-layer --seed 2 --output runs/parallel
              feedback train --data novel.txt --d-model 256 --heads 8 --layers 6 --d-ff 1024 --steps 5000
              feedback train --resume runs/parallel

            The first Ctrl-C finishes the step, saves and stops; the second stops at once.
            """)

    @Option(help: "Where to start from: \(RunConfiguration.Preset.allCases.map(\.rawValue).joined(separator: ", ")).")
    var preset: RunConfiguration.Preset?

    @Option(name: .customLong("config"), help: ArgumentHelp("A YAML file of settings.", valueName: "file"))
    var file: String?

    @Option(help: ArgumentHelp("Go on with a run, in its own configuration.", valueName: "run"))
    var resume: String?

    @Option(help: ArgumentHelp("Begin with a trained model's parameters.", valueName: "model"))
    var `init`: String?

    @Option(help: ArgumentHelp("The run's folder; a new one in runs/ by default.", valueName: "folder"))
    var output: String?

    @Flag(help: "Print no progress.")
    var quiet = false

    @OptionGroup(title: "Settings")
    var settings: SettingOptions

    func validate() throws {
        if resume != nil, preset != nil || file != nil || output != nil || `init` != nil {
            throw ValidationError(
                "--resume takes the run's own configuration; leave out --preset, --config, --init and --output")
        }
    }

    func run() async throws {
        var console = Console(quiet: quiet)
        let (trainer, folder) = try await prepare(&console)
        let interruption = Interruption {
            guard !quiet else { return }
            FileHandle.standardError.write(Data("\nfinishing the step and saving; Ctrl-C again stops at once\n".utf8))
        }
        var progress = TrainingProgress(trainer)
        progress.begin(folder.url, console: &console)
        var newest: URL?
        let finished = try trainer.run(in: folder) { event in
            if case .checkpoint(_, let url) = event { newest = url }
            progress.show(event, console: &console)
        } shouldStop: {
            interruption.signal != nil
        }
        console.clearStatus()
        if let newest { print(newest.relativePath) }
        if !finished, let status = interruption.exitStatus {
            console.print(
                "stopped at step \(trainer.step); go on with: feedback train --resume \(folder.url.relativePath)")
            throw ExitCode(status)
        }
    }

    /// The run as it begins or goes on: flags before environment before file before preset.
    private func prepare(_ console: inout Console) async throws -> (Trainer, RunFolder) {
        if let resume {
            let folder = try RunFolder(opening: URL(filePath: resume))
            let own = try folder.configuration()
            var asked = own
            try settings.apply(to: &asked)
            for setting in Setting.all where setting.text(asked) != setting.text(own) {
                throw ConfigurationError(
                    "the run \(resume) has \(setting.name) \(setting.text(own) ?? "unset"), not "
                        + "\(setting.text(asked) ?? "unset"); leave the flag out, or start a new run with --init")
            }
            let trainer = try Trainer(resuming: folder, corpus: try await load(own.data, &console))
            return (trainer, folder)
        }
        var configuration = preset.map(RunConfiguration.init(preset:)) ?? RunConfiguration()
        if let file { try configuration.apply(contentsOf: URL(filePath: file)) }
        try configuration.apply(environment: ProcessInfo.processInfo.environment)
        try settings.apply(to: &configuration)
        let trainer = try Trainer(configuration, corpus: try await load(configuration.data, &console))
        if let `init` {
            let fresh = try trainer.initialize(from: try openModel(`init`))
            if !fresh.isEmpty { console.print("new parameters: \(fresh.joined(separator: ", "))") }
        }
        return (trainer, try RunFolder(creating: outputFolder(), configuration: configuration))
    }

    private func outputFolder() -> URL {
        if let output { return URL(filePath: output) }
        let time = Date().formatted(
            .verbatim(
                "\(year: .defaultDigits)\(month: .twoDigits)\(day: .twoDigits)-\(hour: .twoDigits(clock: .twentyFourHour, hourCycle: .zeroBased))\(minute: .twoDigits)\(second: .twoDigits)",
                locale: Locale(identifier: "en_US_POSIX"), timeZone: .current,
                calendar: Calendar(identifier: .gregorian)))
        return URL(filePath: "runs/\(preset?.rawValue ?? "train")-\(time)")
    }
}

extension RunConfiguration.Preset: ExpressibleByArgument {}

/// The corpus of a name or path, with a download's progress.
func load(_ data: String, _ console: inout Console) async throws -> TextCorpus {
    let total = KnownCorpus.all.first { $0.name == data }?.bytes
    let copy = console
    let corpus = try await TextCorpus.named(data) { received in
        var console = copy
        let share = total.map { " of \(grouped($0))" } ?? ""
        console.status("downloading \(data): \(grouped(received))\(share) bytes", worthKeeping: received == total)
    }
    console.clearStatus()
    return corpus
}

/// The model in a model folder, or in the newest checkpoint of a run.
func openModel(_ path: String) throws -> ModelFolder {
    try ModelFolder(contentsOf: RunFolder.newestCheckpoint(of: URL(filePath: path)) ?? URL(filePath: path))
}
