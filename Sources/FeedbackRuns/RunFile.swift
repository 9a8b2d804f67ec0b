import FeedbackTransformer
import Foundation

/// `run.json` in a run's folder: what tells it from all others wherever the folder is moved, and how it has ended, should the
/// history not know.
struct RunFile: Codable {
    /// When the run began, as its `created`.
    let began: Double
    /// nil while it goes on.
    var status: Run.Status?

    init(began: Double, status: Run.Status? = nil) { (self.began, self.status) = (began, status) }

    /// nil where the folder does not say.
    init?(of folder: URL) {
        guard let data = try? readRegularFile(folder.appending(path: "run.json")),
            let file = try? JSONDecoder().decode(Self.self, from: data)
        else { return nil }
        self = file
    }

    /// Does nothing where the folder cannot be written: training finds that out by itself.
    func write(to folder: URL) {
        try? JSONEncoder().encode(self).write(to: folder.appending(path: "run.json"), options: .atomic)
    }
}
