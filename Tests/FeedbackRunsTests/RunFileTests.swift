import FeedbackTraining
import Foundation
import Testing

@testable import FeedbackRuns

@Suite struct RunFileTests {
    /// A folder that is moved takes its row along; one that is copied is another run; one begun anew is too.
    @Test func aMovedFolderKeepsItsRun() throws {
        let place = try Place()
        let first = try place.train("run", stopAt: 7).id
        let store = try place.store()
        let created = try store.run("run").created
        let (old, moved) = (place.url.appending(path: "run"), place.url.appending(path: "moved"))
        try FileManager.default.moveItem(at: old, to: moved)
        #expect(try store.run(moved.path).id == first)
        #expect(try place.train("moved", resume: true).id == first)
        let run = try store.run("moved")
        #expect(run.folder == moved.standardizedFileURL.path && run.created == created && run.status == .finished)
        let metrics = try store.metrics(first)
        #expect(metrics.steps.map(\.step) == Array(1...12))
        #expect(metrics.checkpoints.allSatisfy { $0.path.hasPrefix(moved.standardizedFileURL.path + "/") })

        try FileManager.default.copyItem(at: moved, to: place.url.appending(path: "copy"))
        let copy = try place.train("copy", resume: true).id
        #expect(copy != first)
        #expect(try store.run("moved").id == first && store.run("copy").created != created)
        #expect(try place.train("copy", resume: true).id == copy)
        #expect(try place.train("run").id != first)
        #expect(try store.runs().count == 3)
    }

    /// Resumed under another history, a run is still the same to the first.
    @Test func aRunIsTheSameToEveryHistory() throws {
        let place = try Place()
        let first = try place.train("run", stopAt: 7).id
        let aside = place.url.appending(path: "aside")
        let data = place.history.deletingLastPathComponent()
        try FileManager.default.moveItem(at: data, to: aside)
        _ = try place.train("run", resume: true)
        try FileManager.default.removeItem(at: data)
        try FileManager.default.moveItem(at: aside, to: data)
        #expect(try place.train("run", resume: true).id == first)
        #expect(try place.store().runs().count == 1)
    }

    /// A process that has been stopped says nothing, but still has its folder.
    @Test func aStoppedProcessHasNotCrashed() throws {
        let place = try Place()
        _ = try place.train("run", stopAt: 7)
        let store = try place.store()
        try store.write { try $0.execute(sql: "UPDATE runs SET status = 'running', updated = updated - 3600") }
        let run = try store.run("run")
        let folder = try RunFolder(opening: place.url.appending(path: "run"))
        RunFile(began: run.created).write(to: folder.url)
        try folder.lock()
        #expect(run.state() == .running)
        #expect(throws: RunStoreError.self) { try store.delete(run) }
        folder.end()
        #expect(run.state() == .crashed)
        // Who looks takes nothing.
        try folder.lock()
        folder.end()
        try store.delete(run)
    }

    /// A run that ended when the history could no longer be written has not crashed; but one has in whose place another ended.
    @Test(arguments: [(7 as Int?, Run.Status.interrupted), (nil, .finished)])
    func whatTheHistoryMissedTheFolderSays(stopAt: Int?, status: Run.Status) throws {
        let place = try Place()
        _ = try place.train("run", stopAt: stopAt)
        let store = try place.store()
        // No process has that number.
        try store.write {
            try $0.execute(sql: "UPDATE runs SET status = 'running', step = 3, ended = NULL, process = 2147483647")
        }
        let run = try store.run("run")
        #expect(run.state() == status)
        RunFile(began: run.created + 1, status: .finished).write(to: place.url.appending(path: "run"))
        #expect(run.state() == .crashed)
    }
}
