import FeedbackTraining
import FeedbackTransformer
import Foundation
import TestedCommand
import Testing

/// What a run of the command ended with.
struct Outcome {
    let status: Int32
    let output: String
    let errors: String

    /// The one JSON object that was printed.
    var object: [String: Any] {
        get throws { try #require(try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any]) }
    }
}

/// A folder with a text, for one test; removed with it.
final class Workplace {
    let url: URL
    var text: URL { url.appending(path: "text.txt") }

    init() throws {
        url = FileManager.default.temporaryDirectory.appending(path: "feedback-command-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        let words = ["the", "cat", "sat", "on", "a", "mat", "and", "ran"]
        let lines: [String] = (0..<200).map { line in
            let stride: Int = line % 4 + 1
            return (0..<6).map { words[(line * 5 + $0 * stride) % 8] }.joined(separator: " ")
        }
        try Data(lines.joined(separator: "\n").utf8).write(to: text)
    }
    deinit { try? FileManager.default.removeItem(at: url) }

    func process(_ arguments: [String], environment: [String: String] = [:]) -> Process {
        let process = Process()
        process.executableURL = command
        process.arguments = arguments
        process.currentDirectoryURL = url
        process.environment = ["PATH": "/usr/bin:/bin", "HOME": url.path, "XDG_CACHE_HOME": url.path]
            .merging(["LD_LIBRARY_PATH": ProcessInfo.processInfo.environment["LD_LIBRARY_PATH"] ?? ""]) { $1 }
            .merging(environment) { $1 }
        return process
    }

    /// Starts the command, to which nobody listens.
    func start(_ arguments: [String]) throws -> Process {
        let process = process(arguments)
        (process.standardOutput, process.standardError) = (FileHandle.nullDevice, FileHandle.nullDevice)
        try process.run()
        return process
    }

    func run(
        _ arguments: [String], environment: [String: String] = [:], input: URL? = nil, executable: URL = command,
        in folder: URL? = nil
    ) throws -> Outcome {
        let process = process(arguments, environment: environment)
        process.executableURL = executable
        if let folder { process.currentDirectoryURL = folder }
        let (output, errors) = (
            url.appending(path: ".out-\(UUID().uuidString)"), url.appending(path: ".err-\(UUID().uuidString)")
        )
        for file in [output, errors] { try Data().write(to: file) }
        defer { for file in [output, errors] { try? FileManager.default.removeItem(at: file) } }
        process.standardInput = try input.map { try FileHandle(forReadingFrom: $0) } ?? FileHandle.nullDevice
        process.standardOutput = try FileHandle(forWritingTo: output)
        process.standardError = try FileHandle(forWritingTo: errors)
        try process.run()
        process.waitUntilExit()
        return Outcome(
            status: process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus,
            output: try String(contentsOf: output, encoding: .utf8),
            errors: try String(contentsOf: errors, encoding: .utf8))
    }

    var small: [String] {
        [
            "--data", "text.txt", "--layers", "1", "--d-model", "16", "--heads", "2", "--d-ff", "32",
            "--sequence-length", "16",
            "--batch-size", "4", "--warmup-steps", "2", "--threads", "2",
        ]
    }

    /// Trains for so many steps into a folder.
    func train(_ folder: String, steps: Int = 30, _ more: [String] = []) throws -> Outcome {
        try run(["train"] + small + ["--steps", "\(steps)", "--output", folder] + more)
    }

    /// Expects exit status 1, one line that has this in it, nothing on standard output, and nothing left behind.
    func expectRefusal(of arguments: [String], _ message: String, input: URL? = nil) throws {
        let before = try FileManager.default.contentsOfDirectory(atPath: url.path).sorted()
        let outcome = try run(arguments, input: input)
        #expect(outcome.status == 1 && outcome.output.isEmpty, "\(arguments): \(outcome.status) \(outcome.errors)")
        let lines = outcome.errors.split(separator: "\n", omittingEmptySubsequences: false)
        #expect(
            lines.count == 2 && lines[0].hasPrefix("Error: ") && lines[0].contains(message) && lines[1].isEmpty,
            "\(arguments): \(outcome.errors)")
        let after = try FileManager.default.contentsOfDirectory(atPath: url.path).sorted()
        #expect(after == before, "\(arguments) left something behind")
    }
}

@Suite struct CommandTests {
    @Test func trainsGeneratesAndEvaluates() throws {
        let place = try Workplace()
        let trained = try place.train("run")
        #expect(trained.status == 0, "\(trained.errors)")
        #expect(trained.output == "run/checkpoints/step-00000030\n")
        #expect(trained.errors.contains("step 30: validation loss "))
        #expect(trained.errors.contains("tokens/s"))

        let arguments = ["generate", "run", "--prompt", "the", "--max-tokens", "40", "--seed", "5"]
        let text = try place.run(arguments)
        #expect(text.status == 0 && text.output.count == 41)
        #expect(text.errors == "model: run/checkpoints/step-00000030, the run's best checkpoint\n")
        #expect(try place.run(arguments).output == text.output)
        #expect(try place.run(arguments + ["--echo"]).output == "the" + text.output)
        let stopped = try place.run(arguments + ["--stop", String(text.output.dropFirst(9).prefix(2))])
        #expect(text.output.hasPrefix(stopped.output.dropLast()) && stopped.output.count <= 10)
        let greedy = ["generate", "run/checkpoints/step-00000030", "--prompt", "a\\nthe", "--temperature", "0"]
        #expect(try place.run(greedy).output == place.run(greedy + ["--seed", "9"]).output)

        for precision in ["float32", "bfloat16", "int8"] {
            let narrow = arguments + ["--precision", precision]
            let alone = try place.run(narrow)
            #expect(alone.status == 0 && alone.output.count == 41)
            #expect(try place.run(narrow + ["--threads", "2"]).output == alone.output)
        }
        #expect(try place.run(arguments + ["--threads", "0"]).status == 1)
        #expect(try place.run(arguments + ["--precision", "int4"]).status == 64)

        let object = try place.run(["evaluate", "run", "--json"]).object.compactMapValues { $0 as? Double }
        #expect(Set(object.keys) == ["loss", "bitsPerCharacter", "perplexity", "accuracy", "tokens"])
        let length = try Data(contentsOf: place.text).count
        #expect(object["tokens"] == Double(length - Int(0.9 * Double(length)) - 1))
        #expect(abs(object["bitsPerCharacter"]! - object["loss"]! / log(2)) < 1e-9)
        let narrow = try place.run(["evaluate", "run", "--json", "--precision", "int8"]).object
        #expect(narrow["tokens"] as? Double == object["tokens"])
        #expect(abs(try #require(narrow["loss"] as? Double) - object["loss"]!) < 0.02)
        let plain = try place.run(["evaluate", "run", "--data", "text.txt", "--split", "all"])
        #expect(
            plain.status == 0 && plain.output.contains("bits per character") && plain.output.contains("memory carried"))
    }

    @Test func quietSaysNothingButTheResult() throws {
        let place = try Workplace()
        let trained = try place.train("run", steps: 3, ["--quiet"])
        #expect(trained.status == 0 && trained.errors.isEmpty && trained.output == "run/checkpoints/step-00000003\n")
    }

    /// Flag before environment before file before preset.
    @Test func precedence() throws {
        let place = try Workplace()
        try Data("heads: 4\nd-ff: 48\nseed: 3\nsteps: 2\n".utf8).write(to: place.url.appending(path: "my.yaml"))
        let outcome = try place.run(
            [
                "train", "--preset", "labml", "--config", "my.yaml", "--data", "text.txt", "--layers", "1", "--d-model",
                "16",
                "--sequence-length", "8", "--batch-size", "2", "--heads", "1", "--output", "run",
            ],
            environment: ["FEEDBACK_HEADS": "2", "FEEDBACK_D_FF": "40"])
        #expect(outcome.status == 0, "\(outcome.errors)")
        let yaml = try String(contentsOf: place.url.appending(path: "run/config.yaml"), encoding: .utf8)
        for line in ["heads: 1", "d-ff: 40", "seed: 3", "steps: 2", "optimizer: noam", "batch-size: 2"] {
            #expect(yaml.split(separator: "\n").contains(Substring(line)), "\(line) is not in \(yaml)")
        }
        #expect(!yaml.contains("epochs"))
        // The run's own file repeats the run.
        let again = try place.run(["train", "--config", "run/config.yaml", "--output", "again"])
        #expect(again.status == 0)
        let model = "checkpoints/step-00000002/model.safetensors"
        #expect(
            try Data(contentsOf: place.url.appending(path: "run/\(model)"))
                == Data(contentsOf: place.url.appending(path: "again/\(model)")))
    }

    /// Every setting is taken from its flag into the run, none of them at its default.
    @Test func everySettingIsAFlag() throws {
        let values = [
            "memory": "feedback-last", "key-value": "per-layer", "memory-norm": "none", "layers": "2", "d-model": "12",
            "heads": "3",
            "d-ff": "20", "dropout": "0.25", "memory-window": "9", "position-init": "zero", "data": "text.txt",
            "field": "body", "validation": "lines.jsonl", "tokenizer": "bpe", "vocabulary-size": "280",
            "streams": "true",
            "sequence-length": "6", "batch-size": "3",
            "curriculum": "0:3,1:6", "sequences": "12", "steps": "2", "optimizer": "noam", "learning-rate": "0.5",
            "minimum-learning-rate": "0.25", "warmup-steps": "7", "beta2": "0.5", "weight-decay": "0.75",
            "gradient-clip": "2.5", "accumulate": "2", "precision": "float32", "threads": "1", "seed": "5",
            "eval-interval": "2", "sample-interval": "3", "checkpoint-interval": "4", "keep": "5", "patience": "6",
            "sample-prompt": "cat",
        ]
        let place = try Workplace()
        try Data("{\"body\": \"\(String(repeating: "the cat sat ", count: 30))\"}".utf8)
            .write(to: place.url.appending(path: "lines.jsonl"))
        let flags = values.flatMap { name, value in name == "streams" ? ["--streams"] : ["--\(name)", value] }
        let outcome = try place.run(["train", "--output", "run"] + flags)
        #expect(outcome.status == 0, "\(outcome.errors)")
        let file = place.url.appending(path: "run/config.yaml")
        var (found, plain) = (RunConfiguration(), RunConfiguration())
        plain.length = .epochs(1)
        try found.apply(contentsOf: file)
        // A run has one of three lengths, a task alone has lessons; a precision other than float32 needs its CPU, and a device
        // its driver.
        let others = ["epochs", "seconds", "lessons", "hints", "device"]
        for setting in Setting.all where !others.contains(setting.name) {
            // A file is kept by its whole path.
            let text = setting.text(found).map { $0.hasPrefix("/") ? URL(filePath: $0).lastPathComponent : $0 }
            #expect(text == values[setting.name], "\(setting.name)")
            if setting.name != "precision" { #expect(setting.text(found) != setting.text(plain), "\(setting.name)") }
        }
        let other = try place.train("other", steps: 1, ["--no-streams"])
        #expect(other.status == 0)
        let task = try place.train("task", steps: 1, ["--data", "copy", "--lessons", "0:1-3,9:4", "--hints"])
        #expect(task.status == 0 && task.errors.contains("drawn afresh, difficulty 1 to 3"), "\(task.errors)")
        try found.apply(contentsOf: place.url.appending(path: "task/config.yaml"))
        #expect(found.lessons?.description == "0:1-3,9:4" && found.hints && found.sequences == nil)
        for (flag, length) in [("--epochs", "epochs: 1"), ("--seconds", "steps: ")] {
            var small = place.small
            small.replaceSubrange(small.firstIndex(of: "--batch-size")!..., with: ["--batch-size", "400"])
            let outcome = try place.run(["train"] + small + [flag, "1", "--output", "run\(flag)"])
            #expect(outcome.status == 0, "\(outcome.errors)")
            let yaml = try String(contentsOf: place.url.appending(path: "run\(flag)/config.yaml"), encoding: .utf8)
            #expect(yaml.contains(length), "\(yaml)")
        }
    }

    @Test(arguments: [SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGHUP])
    func interruptedRunsSaveAndGoOn(signal: Int32) throws {
        // Where the tests run under nohup, the command would, too.
        _ = Foundation.signal(SIGHUP, SIG_DFL)
        let place = try Workplace()
        let process = place.process(
            ["train"] + place.small + [
                "--steps", "1000000", "--eval-interval", "100000", "--checkpoint-interval", "100000", "--output", "run",
            ])
        let errors = Pipe()
        (process.standardOutput, process.standardError) = (FileHandle.nullDevice, errors)
        try process.run()
        // Once the first step is taken.
        let metrics = place.url.appending(path: "run/metrics.jsonl")
        while process.isRunning, (try? Data(contentsOf: metrics))?.isEmpty != false { usleep(10_000) }
        // `timeout` signals a process and then its group: two come at once, and are one wish.
        for _ in 0..<2 {
            kill(process.processIdentifier, signal)
            usleep(1000)
        }
        process.waitUntilExit()
        #expect(process.terminationReason == .exit && process.terminationStatus == 128 + signal)
        let said = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        #expect(said.contains("feedback train --resume run"), "\(said)")
        let names = try FileManager.default.contentsOfDirectory(
            atPath: place.url.appending(path: "run/checkpoints").path)
        #expect(names.count { $0.hasPrefix("step-") } == 1)

        let differing = try place.run(["train", "--resume", "run", "--layers", "2"])
        #expect(differing.status == 1 && differing.errors.contains("the run run has layers 1, not 2"))
        let resumed = try place.run(["train", "--resume", "run", "--max-time", "1s"])
        let name = try #require(names.first { $0.hasPrefix("step-") })
        #expect(resumed.status == 0 && resumed.output > "run/checkpoints/\(name)\n", "\(resumed.errors)")
    }

    /// `train 2>&1 | tee log` whose tee has gone: what nobody reads ends nothing, and the run still saves when it is asked to stop.
    @Test func aReaderThatGoesAwayEndsNothing() throws {
        let place = try Workplace()
        let process = place.process(
            ["train"] + place.small + [
                "--steps", "1000000", "--eval-interval", "5", "--checkpoint-interval", "100000", "--output", "run",
            ])
        let output = Pipe()
        (process.standardOutput, process.standardError) = (output, output)
        try process.run()
        try output.fileHandleForWriting.close()
        try output.fileHandleForReading.close()
        // Many lines after the reader has gone.
        let metrics = place.url.appending(path: "run/metrics.jsonl")
        func lines() -> Int { ((try? Data(contentsOf: metrics)) ?? Data()).count { $0 == 0x0a } }
        while process.isRunning, lines() < 60 { usleep(10_000) }
        kill(process.processIdentifier, SIGTERM)
        process.waitUntilExit()
        #expect(process.terminationReason == .exit && process.terminationStatus == 143)
        #expect(try place.run(["train", "--resume", "run", "--max-time", "1s"]).status == 0)
    }

    @Test func maximalTimeSavesAndStops() throws {
        let place = try Workplace()
        let stopped = try place.train("run", steps: 1_000_000, ["--max-time", "1s"])
        #expect(stopped.status == 0 && stopped.errors.contains("go on with: feedback train --resume run"))
        let name = try #require(stopped.output.split(separator: "\n").first)
        #expect(FileManager.default.fileExists(atPath: place.url.appending(path: "\(name)/training.json").path))
        let more = try place.run(["train", "--resume", "run", "--max-time", "1s"])
        #expect(more.status == 0 && more.output > stopped.output)
    }

    /// Killed at random moments while it saves after every step, a run always has a whole checkpoint, and ends with the
    /// same bytes as one that was left alone: of a text, and of a task's fresh sequences across its lessons.
    @Test(arguments: [
        ["--curriculum", "0:8,15:16", "--accumulate", "2"],
        ["--data", "reverse", "--lessons", "0:1-4,25:2-9,1%:20", "--eval-interval", "1000"],
        ["--data", "reverse", "--lessons", "0:1-4,25:2-9,1%:20", "--eval-interval", "1000", "--threads", "1"],
    ])
    func killedRunsGoOn(settings: [String]) throws {
        let place = try Workplace()
        let often = ["--checkpoint-interval", "1", "--eval-interval", "7"] + settings
        #expect(try place.train("whole", steps: 60, often).status == 0)
        var arguments = ["train"] + place.small + ["--steps", "60", "--output", "run"] + often
        var kills = 0
        while kills < Int(ProcessInfo.processInfo.environment["FEEDBACK_TEST_KILLS"] ?? "6")! {
            let process = try place.start(arguments)
            usleep(.random(in: 30_000...400_000))
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
            if process.terminationReason == .uncaughtSignal { kills += 1 }
            if let newest = RunFolder.newestCheckpoint(of: place.url.appending(path: "run")) {
                let folder = try ModelFolder(contentsOf: newest)
                #expect(folder.model.parameterCount > 0)
                arguments = ["train", "--resume", "run"]
            } else {
                try? FileManager.default.removeItem(at: place.url.appending(path: "run"))
            }
            if newestStep(place) == 60 {
                try compareRuns(place)
                try FileManager.default.removeItem(at: place.url.appending(path: "run"))
                arguments = ["train"] + place.small + ["--steps", "60", "--output", "run"] + often
            }
        }
        #expect(try place.run(arguments).status == 0)
        try compareRuns(place)
    }

    private func newestStep(_ place: Workplace) -> Int? {
        RunFolder.newestCheckpoint(of: place.url.appending(path: "run"))
            .flatMap { Int($0.lastPathComponent.dropFirst(5)) }
    }

    /// The last checkpoint of the run `run` has the bytes of that of `whole`.
    private func compareRuns(_ place: Workplace) throws {
        for name in ["model.safetensors", "optimizer.safetensors", "training.json"] {
            let file = "checkpoints/step-00000060/\(name)"
            #expect(
                try Data(contentsOf: place.url.appending(path: "run/\(file)"))
                    == Data(contentsOf: place.url.appending(path: "whole/\(file)")), "\(name)")
        }
    }

    @Test func verifiesFixtures() throws {
        let place = try Workplace()
        let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let file = tests.appending(path: "FeedbackTrainingTests/Fixtures/feedback-kv.safetensors").path
        let plain = try place.run(["verify", file])
        #expect(plain.status == 0 && plain.output.split(separator: "\n").allSatisfy { $0.hasPrefix("ok ") })
        #expect(plain.output.contains("grads.transformer.weights") && plain.output.contains("adam_losses[4]"))
        let object = try place.run(["verify", file, "--json"]).object
        #expect(object["passed"] as? Bool == true && (object["tensors"] as? [Any])?.count == 57)
    }

    @Test func benchmarksBesideTheLimit() throws {
        let place = try Workplace()
        let small = ["--layers", "1", "--d-model", "16", "--heads", "2", "--d-ff", "32", "--steps", "3"]
        let names: Set = [
            "preset", "precision", "threads", "tokensPerSecond", "limitTokensPerSecond", "utilization",
            "peakMemoryBytes", "phases",
        ]
        for (arguments, precision, threads) in [
            (["train", "--preset", "nanogpt-cpu", "--threads", "2", "--sequence-length", "8"], "float32", 2),
            (["generate", "--preset", "labml"], "float32", 1),
            (["generate", "--preset", "demo", "--precision", "int8", "--threads", "2"], "int8", 2),
        ] {
            let outcome = try place.run(["benchmark"] + arguments + small + ["--json"])
            #expect(outcome.status == 0, "\(outcome.errors)")
            let object = try outcome.object
            #expect(names.isSubset(of: object.keys))
            #expect(object["preset"] as? String == arguments[2] && object["precision"] as? String == precision)
            #expect(object["threads"] as? Int == threads)
            let plain = try place.run(["benchmark"] + arguments + small)
            #expect(plain.status == 0 && plain.output.contains("utilization") && plain.output.contains("limit "))
        }
    }

    @Test func wrongUsageExitsWith64() throws {
        let place = try Workplace()
        for arguments in [
            ["train", "--no-such-flag"], ["nonsense"], ["generate"], ["generate", "m"], ["train", "--layers", "two"],
            ["train", "--preset", "huge"], ["train", "--steps", "3", "--epochs", "4"],
            ["train", "--steps", "3", "--seconds", "4"],
            ["train", "--resume", "x", "--preset", "demo"],
            ["train", "--max-time", "ten"], ["train", "--max-time", "0s"],
            ["generate", "m", "--prompt", "x", "--max-tokens", "1.5"],
        ] {
            let outcome = try place.run(arguments)
            #expect(outcome.status == 64 && outcome.output.isEmpty && outcome.errors.contains("Usage:"), "\(arguments)")
        }
        #expect(try place.run(["--help"]).status == 0)
        #expect(try place.run(["train", "--help"]).output.contains("--learning-rate"))
        #expect(try place.run(["--version"]).output == "0.1.0\n")
    }
}
