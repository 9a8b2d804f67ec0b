import FeedbackTraining
import Foundation
import TestedCommand
import Testing

/// The command line as people find it: help, completions, names, near misses.
@Suite struct CommandLineTests {
    @Test func helpTellsDefaults() throws {
        let place = try Workplace()
        let help = try place.run(["help", "train"]).output.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        for setting in Setting.all {
            #expect(help.contains(" --\(setting.name)\(setting.kind == .bool ? "/--no-\(setting.name)" : "") "))
            guard let usual = setting.text(RunConfiguration()) else { continue }
            #expect(help.contains("\(setting.summary.dropFirst()). (default: \(usual))"), "\(setting.name)")
        }
        for command in ["train", "generate", "evaluate", "verify", "benchmark", "runs", "serve", "import", "export"] {
            let lines = try place.run(["help", command]).output.split(separator: "\n", omittingEmptySubsequences: false)
            let begin = try #require(lines.firstIndex { $0.hasPrefix("Example") })
            let examples = lines[(begin + 1)...].prefix { !$0.isEmpty }
            #expect(!examples.isEmpty && examples.allSatisfy { $0.hasPrefix("  ") }, "\(command): \(examples)")
        }
    }

    /// What bash offers: runs by name, folders, files, data sets, presets, and the values of a setting.
    @Test func completionsOfferWhatThereIs() throws {
        let place = try Workplace()
        #expect(try place.train("runs/first", steps: 1).status == 0)
        let script = place.url.appending(path: "complete.sh")
        try Data(try place.run(["--generate-completion-script", "bash"]).output.utf8).write(to: script)
        func offered(_ words: String...) throws -> [String] {
            let shell = place.process([])
            shell.executableURL = URL(filePath: "/bin/bash")
            let all = ([command.path] + words).map { "'\($0)'" }.joined(separator: " ")
            shell.arguments = [
                "-c",
                """
                source complete.sh; COMP_WORDS=(\(all)); COMP_CWORD=\(words.count); COMP_LINE="${COMP_WORDS[*]}"
                COMP_POINT=${#COMP_LINE}; _feedback feedback "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
                printf '%s\\n' "${COMPREPLY[@]}"
                """,
            ]
            let output = Pipe()
            shell.standardOutput = output
            try shell.run()
            let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            shell.waitUntilExit()
            return text.split(separator: "\n").map(String.init)
        }
        #expect(try offered("generate", "fi") == ["first"])
        #expect(try offered("evaluate", "runs/") == ["runs/first"])
        #expect(try offered("runs", "show", "f") == ["first"])
        #expect(try offered("train", "--resume", "") == ["first", "runs"])
        #expect(try offered("train", "--data", "t") == ["tiny_shakespeare", "text.txt"])
        #expect(try offered("train", "--preset", "lab") == ["labml", "labml-notebook"])
        #expect(try offered("train", "--memory", "f") == ["feedback", "feedback-last"])
        #expect(try offered("train", "--output", "r") == ["runs"])
    }

    /// A run is meant by its id or name too; its best checkpoint where a model is meant, its newest where it goes on.
    @Test func runsAreFoundByIdAndName() throws {
        let place = try Workplace()
        let often = ["--checkpoint-interval", "5", "--eval-interval", "5"]
        #expect(try place.train("runs/first", steps: 10, often).status == 0)
        let checkpoints = place.url.appending(path: "runs/first/checkpoints")
        let best = checkpoints.appending(path: "best")
        try FileManager.default.removeItem(at: best)
        try FileManager.default.createSymbolicLink(atPath: best.path, withDestinationPath: "step-00000005")

        let greedy = ["--prompt", "the", "--max-tokens", "20", "--temperature", "0"]
        let expected = try place.run(["generate", "runs/first/checkpoints/step-00000005"] + greedy)
        #expect(expected.status == 0 && expected.errors.isEmpty)
        for name in ["1", "first", "runs/first"] {
            let text = try place.run(["generate", name] + greedy)
            #expect(text.output == expected.output)
            #expect(
                text.errors.hasSuffix("runs/first/checkpoints/step-00000005, the run's best checkpoint\n"),
                "\(text.errors)")
        }
        let figures = try place.run(["evaluate", "first", "--json"])
        #expect(figures.output.contains("/text.txt\"") && figures.errors.contains("step-00000005"), "\(figures.errors)")
        let resumed = try place.run(["train", "--resume", "first", "--steps", "12"])
        #expect(resumed.status == 0 && resumed.errors.contains("going on from step 10"), "\(resumed.errors)")
        let begun = try place.run(["train", "--init", "1", "--data", "text.txt", "--steps", "1", "--output", "next"])
        #expect(begun.status == 0 && begun.errors.contains("the run's best checkpoint"), "\(begun.errors)")

        let serving = place.process(["serve", "first", "--port", "0"])
        let errors = Pipe()
        (serving.standardOutput, serving.standardError) = (FileHandle.nullDevice, errors)
        try serving.run()
        var said = ""
        while !said.contains("/v1"), case let more = errors.fileHandleForReading.availableData, !more.isEmpty {
            said += String(decoding: more, as: UTF8.self)
        }
        serving.terminate()
        serving.waitUntilExit()
        #expect(said.contains("the run's best checkpoint") && said.contains("listening"), "\(said)")

        // A path that is there is what is meant.
        try FileManager.default.createDirectory(
            at: place.url.appending(path: "first"), withIntermediateDirectories: true)
        let path = try place.run(["generate", "first"] + greedy)
        #expect(path.status == 1 && path.errors.contains("first is not a model"), "\(path.errors)")
        let neither = try place.run(["generate", "frist"] + greedy)
        #expect(neither.errors.contains("there is no folder frist; there is no run frist in "), "\(neither.errors)")
    }

    /// A run that begins with a model has its sizes and its tokens; what is said otherwise is refused.
    @Test func aModelToBeginWithGivesItsSizes() throws {
        let place = try Workplace()
        let other = ["--tokenizer", "bytes", "--key-value", "per-layer", "--memory-norm", "none"]
        #expect(try place.train("first", steps: 2, ["--memory", "per-layer"] + other).status == 0)
        let begin = ["train", "--init", "first", "--data", "text.txt", "--steps", "1"]
        let second = try place.run(begin + ["--preset", "labml", "--batch-size", "2", "--output", "second"])
        #expect(
            second.status == 0 && second.errors.contains("new parameters: transformer.weights\n"), "\(second.errors)")
        let yaml = try String(contentsOf: place.url.appending(path: "second/config.yaml"), encoding: .utf8)
        for line in ["layers: 1", "d-model: 16", "heads: 2", "d-ff: 32", "tokenizer: bytes", "memory: feedback"] {
            #expect(yaml.split(separator: "\n").contains(Substring(line)), "\(line): \(yaml)")
        }
        let refused = try place.run(begin + ["--layers", "2", "--output", "third"])
        #expect(refused.status == 1 && refused.errors.contains("has layers 1, this run has 2; leave that out"))
    }

    @Test func listsOfRunsAreChosen() throws {
        let place = try Workplace()
        #expect(try place.train("first", steps: 3).status == 0)
        #expect(try place.train("second", steps: 4).status == 0)
        func list(_ more: String...) throws -> [List.Run] {
            let text = try place.run(["runs", "list", "--json"] + more).output
            return try JSONDecoder().decode(List.self, from: Data(text.utf8)).runs
        }
        let all = try list()
        #expect(all.map(\.name) == ["second", "first"] && all.map(\.step) == [4, 3] && all.map(\.id) == [2, 1])
        #expect(all.allSatisfy { $0.state == "finished" && $0.configuration["d-model"] == "16" })
        #expect(try list("--limit", "1").map(\.name) == ["second"])
        #expect(try list("--name", "irs", "--state", "finished").map(\.name) == ["first"])
        #expect(try list("--state", "running").isEmpty)
        #expect(try place.run(["runs", "--name", "x"]).output == "no such runs\n")
        for wrong in [["--limit", "0"], ["--state", "asleep"]] {
            #expect(try place.run(["runs", "list"] + wrong).status == 64)
        }
    }

    @Test(arguments: [
        (["trian", "--preset", "demo"], "Unknown command 'trian'. Did you mean 'train'?"),
        (["evalute", "x"], "Unknown command 'evalute'. Did you mean 'evaluate'?"),
        (["runs", "shwo", "3"], "Unknown command 'shwo'. Did you mean 'show'?"),
        (["train", "--lr", "3"], "Unknown option '--lr'. Did you mean '--learning-rate'?"),
        (["train", "--bs", "3"], "Unknown option '--bs'. Did you mean '--batch-size'?"),
        (["train", "--learning-rte", "3"], "Unknown option '--learning-rte'. Did you mean '--learning-rate'?"),
        (["benchmark", "train", "--wd", "3"], "Unknown option '--wd'. Did you mean '--weight-decay'?"),
        (["generate", "m", "--prompt", "x", "--tokens=3"], "Unknown option '--tokens'. Did you mean '--max-tokens'?"),
        (["train", "--nonsense"], "Unknown option '--nonsense'"), (["nonsense"], "Unexpected argument 'nonsense'"),
    ]) func nearMissesAreNamed(arguments: [String], message: String) throws {
        let outcome = try Workplace().run(arguments)
        let lines = outcome.errors.split(separator: "\n")
        #expect(outcome.status == 64 && lines.first == "Error: \(message)", "\(outcome.errors)")
        #expect(lines.count == 3 && lines[1].hasPrefix("Usage: feedback "), "\(outcome.errors)")
    }

    /// What somebody asks for is refused where it cannot be, before anything is trained.
    @Test func whatIsAskedForIsNotOverruled() throws {
        let place = try Workplace()
        let unknown = try place.train("run", steps: 2, ["--sample-prompt", "cat?"])
        #expect(unknown.status == 1 && unknown.errors.contains("sample-prompt cannot be used: the character \"?\""))
        let nothing = try place.train("run", steps: 2, ["--sample-prompt", "\"", "--tokenizer", "words"])
        #expect(nothing.status == 1 && nothing.errors.contains("sample-prompt cannot be used: it has no token"))
        #expect(!FileManager.default.fileExists(atPath: place.url.appending(path: "run").path))
        let both = try place.run(
            ["train"] + place.small + ["--output", "run"],
            environment: ["FEEDBACK_STEPS": "3", "FEEDBACK_EPOCHS": "1"])
        #expect(
            both.status == 1 && both.errors.contains("FEEDBACK_STEPS and FEEDBACK_EPOCHS are set"), "\(both.errors)")
        let known = try place.run(
            ["train"] + place.small + ["--steps", "1", "--output", "run"],
            environment: ["FEEDBACK_RUNS": place.url.appending(path: "my.sqlite").path])
        #expect(known.status == 0 && !known.errors.contains("is no setting"), "\(known.errors)")
    }

    /// Another user's history is read, while they train and when nobody does; what would write it is refused.
    @Test func aHistoryThatCannotBeWrittenIsRead() throws {
        let place = try Workplace()
        #expect(try place.train("first", steps: 3).status == 0)
        let folder = place.url.appending(path: ".local/share/feedback")
        func permit(_ folderMode: Int, _ fileMode: Int) throws {
            try FileManager.default.setAttributes([.posixPermissions: folderMode], ofItemAtPath: folder.path)
            for name in try FileManager.default.contentsOfDirectory(atPath: folder.path) {
                try FileManager.default.setAttributes(
                    [.posixPermissions: fileMode], ofItemAtPath: folder.appending(path: name).path)
            }
        }
        defer { try? permit(0o755, 0o644) }
        func run(_ arguments: [String]) throws -> Outcome {
            if geteuid() != 0 { return try place.run(arguments) }
            // Permissions bind the superuser only without these capabilities.
            let dropped = ["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all", command.path]
            return try place.run(dropped + arguments, executable: URL(filePath: "/usr/bin/setpriv"))
        }
        try permit(0o555, 0o444)
        let list = try run(["runs", "list"])
        #expect(list.status == 0 && list.output.contains("first"), "\(list.errors)")
        let deleted = try run(["runs", "delete", "first"])
        #expect(deleted.status == 1 && deleted.errors.contains("can only be read"), "\(deleted.errors)")
        let trained = try run(["train"] + place.small + ["--steps", "1", "--output", "second"])
        #expect(trained.status == 0 && trained.errors.contains("training goes on without it"), "\(trained.errors)")

        try permit(0o755, 0o644)
        let training = try place.start(["train"] + place.small + ["--steps", "1000000", "--output", "third"])
        defer { kill(training.processIdentifier, SIGKILL) }
        while training.isRunning, try !place.run(["runs"]).output.contains("third") { usleep(50_000) }
        try permit(0o555, 0o444)
        let meanwhile = try run(["runs", "list"])
        #expect(meanwhile.output.contains("third  running"), "\(meanwhile.errors)")
    }
}

/// What `runs list --json` prints.
private struct List: Decodable {
    struct Run: Decodable {
        let id: Int, name: String, state: String, step: Int, configuration: [String: String]
    }
    let runs: [Run]
}
