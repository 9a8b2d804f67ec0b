import Foundation
import Testing

@Suite struct RunsTests {
    /// What `feedback train` enters, `feedback runs` shows.
    @Test func historyOfRuns() throws {
        let place = try Workplace()
        #expect(try place.run(["runs", "list"]).output.contains("no runs yet"))
        #expect(try place.train("first", steps: 12, ["--eval-interval", "5", "--sample-prompt", "cat"]).status == 0)
        #expect(try place.train("second", steps: 4, ["--seed", "2", "--heads", "4"]).status == 0)
        #expect(try place.train("unseen", steps: 2, ["--no-record"]).status == 0)
        let history = place.url.appending(path: ".local/share/feedback/runs.sqlite")
        #expect(FileManager.default.fileExists(atPath: history.path))

        let list = try place.run(["runs"]).output.split(separator: "\n")
        #expect(list.count == 3 && list[0].hasPrefix("id  name"))
        #expect(list[1].contains("second  finished  4/4") && list[2].contains("first   finished  12/12"))

        let shown = try place.run(["runs", "show", "first"]).output
        for text in ["state          finished", "steps          12 of 12", "layer weights", "sample of step 12"] {
            #expect(shown.contains(text), "\(shown)")
        }
        #expect(try place.run(["runs", "show", "1"]).output == shown)
        #expect(try place.run(["runs", "show", "./first"]).output == shown)

        let compared = try place.run(["runs", "compare", "1", "2"]).output
        #expect(compared.contains("heads") && compared.contains("seed") && !compared.contains("d-model"))

        // The run folder's own metrics, the history, and both formats have the same numbers.
        struct Line: Decodable { let step: Int, loss: Double? }
        let lines = try String(contentsOf: place.url.appending(path: "first/metrics.jsonl"), encoding: .utf8)
            .split(separator: "\n").map { try JSONDecoder().decode(Line.self, from: Data($0.utf8)) }
        let losses = lines.compactMap(\.loss)
        let csv = try place.run(["runs", "export", "first"]).output.split(separator: "\n").dropFirst()
        #expect(csv.map { Double($0.split(separator: ",")[2])! } == losses && losses.count == 12)
        struct Row: Decodable { let kind: String, loss: Double? }
        let rows = try place.run(["runs", "export", "first", "--format", "jsonl"]).output.split(separator: "\n")
            .map { try JSONDecoder().decode(Row.self, from: Data($0.utf8)) }
        #expect(rows.filter { $0.kind == "step" }.compactMap(\.loss) == losses)
        #expect(rows.filter { $0.kind == "validation" }.count == 3)

        let missing = try place.run(["runs", "delete", "2", "nothing"])
        #expect(missing.status == 1 && missing.errors.contains("there is no run nothing"))
        #expect(try place.run(["runs", "show", "2"]).status == 0)
        #expect(try place.run(["runs", "delete", "2"]).output.contains("its folder"))
        #expect(try place.run(["runs", "show", "2"]).status == 1)
        #expect(FileManager.default.fileExists(atPath: place.url.appending(path: "second/config.yaml").path))
    }

    /// What takes two columns of a terminal is counted as two.
    @Test func wideNamesKeepTheColumns() throws {
        let place = try Workplace()
        for name in ["plain", "日本語", "été👍🏽", "❤️ 가"] { #expect(try place.train(name, steps: 1).status == 0) }
        let list = try place.run(["runs"]).output.split(separator: "\n")
        let padded = ["name    state", "❤️ 가   finished", "été👍🏽   finished", "日本語  finished", "plain   finished"]
        #expect(list.count == 5 && zip(list, padded).allSatisfy { $0.contains($1) }, "\(list)")
    }

    /// A run that was killed has crashed, one that was asked to stop is interrupted; both are one run when they have gone on.
    @Test func statesOfRuns() throws {
        let place = try Workplace()
        func state() throws -> String {
            let lines = try place.run(["runs", "show", "run"]).output.split(separator: "\n")
            return lines.first { $0.hasPrefix("state") }?.split(separator: " ").last.map(String.init) ?? ""
        }
        let long = ["train"] + place.small + ["--steps", "1000000", "--checkpoint-interval", "5", "--output", "run"]
        for (signal, expected) in [(SIGKILL, "crashed"), (SIGINT, "interrupted")] {
            let process = try place.start(expected == "crashed" ? long : ["train", "--resume", "run"])
            let last = place.url.appending(path: "run/checkpoints/last").path
            while process.isRunning, try state() != "running" || !FileManager.default.fileExists(atPath: last) {
                usleep(50_000)
            }
            #expect(try state() == "running")
            #expect(try place.run(["runs", "delete", "run"]).errors.contains("is being trained"))
            let second = try place.run(["train", "--resume", "run"])
            #expect(second.status == 1 && second.errors.contains("another process"), "\(second.errors)")
            #expect(try state() == "running")
            kill(process.processIdentifier, signal)
            process.waitUntilExit()
            #expect(try state() == expected)
        }
        #expect(try place.run(["runs"]).output.split(separator: "\n").count == 2)
    }

    /// An error is in the history; a history that cannot be had is only in the way where it was asked for.
    @Test func errorsOfRuns() throws {
        let place = try Workplace()
        let diverged = try place.train("run", steps: 200, ["--learning-rate", "1000", "--gradient-clip", "0"])
        #expect(diverged.status == 1, "\(diverged.errors)")
        let shown = try place.run(["runs", "show", "run"]).output
        #expect(shown.contains("failed") && shown.contains("not finite"), "\(shown)")

        try Data("no database".utf8).write(to: place.url.appending(path: "text.sqlite"))
        let refused = try place.train("other", steps: 2, ["--runs", "text.sqlite"])
        #expect(refused.status == 1 && refused.errors.contains("cannot open the run history"))
        let environment = ["FEEDBACK_RUNS": place.url.appending(path: "text.sqlite").path]
        let arguments = ["train"] + place.small + ["--steps", "2", "--output", "third"]
        let tolerated = try place.run(arguments, environment: environment)
        #expect(tolerated.status == 0 && tolerated.errors.contains("training goes on without it"))
        #expect(try place.run(["runs", "list"], environment: environment).status == 1)
    }

    @Test func writesForTensorBoard() throws {
        let place = try Workplace()
        let flags = ["--tensorboard", "board", "--checkpoint-interval", "5"]
        #expect(try place.train("run", steps: 10, flags).status == 0)
        func files() throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: place.url.appending(path: "board/run").path)
        }
        #expect(try files().count == 1)
        #expect(try place.run(["train", "--resume", "run", "--tensorboard", "board"]).status == 0)
        #expect(try files().count == 2)
        // Of another run in that folder, another curve.
        #expect(try place.train("second", steps: 2, flags).status == 0)
        let board = place.url.appending(path: "board").path
        #expect(try FileManager.default.contentsOfDirectory(atPath: board).sorted() == ["run", "second"])
        let without = try place.train("other", steps: 2, ["--tensorboard", "text.txt/board"])
        #expect(without.status == 0 && without.errors.contains("training goes on without TensorBoard's file"))
    }
}
