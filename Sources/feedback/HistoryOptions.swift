import ArgumentParser
import FeedbackRuns
import FeedbackTraining
import FeedbackTransformer
import Foundation

/// Where the history of runs is.
struct HistoryOptions: ParsableArguments {
    @Option(
        name: .customLong("runs"),
        help: ArgumentHelp(
            "The run history; by default $FEEDBACK_RUNS, else feedback/runs.sqlite in the XDG data folder.",
            valueName: "file"),
        completion: .file())
    var path: String?

    private var url: URL { path.map { URL(filePath: $0) } ?? RunStore.defaultURL() }

    func store() throws -> RunStore { try RunStore(at: url) }

    /// The folder that is meant by a path, or else by a run's id or name.
    func folder(of asked: String) throws -> URL {
        if FileManager.default.fileExists(atPath: asked) { return URL(filePath: asked) }
        guard FileManager.default.fileExists(atPath: url.path) else { throw FileError("there is no folder \(asked)") }
        do { return URL(filePath: try store().run(asked).folder) } catch {
            throw FileError("there is no folder \(asked); \(error)")
        }
    }
}

/// One run of the history.
struct AskedRun: ParsableArguments {
    @Argument(help: ArgumentHelp("An id, a name or a folder.", valueName: "run"), completion: .runs)
    var name: String
    @OptionGroup var history: HistoryOptions

    func find() throws -> (run: Run, metrics: RunMetrics) {
        let store = try history.store()
        let run = try store.run(name)
        return (run, try store.metrics(run.id!))
    }
}

/// The model of a model folder; of a run's folder, that of its best checkpoint, or of its newest where none is the best.
///
/// - Returns: also a line that says which checkpoint it is.
func openModel(_ folder: URL) throws -> (ModelFolder, note: String?) {
    let best = RunFolder.bestCheckpoint(of: folder)
    guard let checkpoint = best ?? RunFolder.newestCheckpoint(of: folder) else {
        if FileManager.default.fileExists(atPath: folder.appending(path: "config.yaml").path) {
            throw FileError("the run \(folder.path) has no checkpoint yet")
        }
        guard FileManager.default.fileExists(atPath: folder.appending(path: "config.json").path) else {
            throw FileError("\(folder.path) is not a model: give a folder with a config.json in it, or a run")
        }
        return (try ModelFolder(contentsOf: folder), nil)
    }
    let note = "model: \(checkpoint.relativePath), the run's \(best == nil ? "newest" : "best") checkpoint"
    return (try ModelFolder(contentsOf: checkpoint), note)
}

/// Where the model of a run lies, or of a model folder.
func modelFolder(_ folder: URL) -> URL {
    RunFolder.bestCheckpoint(of: folder) ?? RunFolder.newestCheckpoint(of: folder) ?? folder
}
