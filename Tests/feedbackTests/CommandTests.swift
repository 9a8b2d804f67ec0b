import FeedbackTraining
import FeedbackTransformer
import Foundation
import Testing

/// What a run of the command ended with.
struct Outcome {
    let status: Int32
    let output: String
    let errors: String
}

/// The command as built beside the tests.
private let command: URL = {
    #if os(macOS)
        let bundle = Bundle.allBundles.first { $0.bundlePath.hasSuffix(".xctest") }!
        return bundle.bundleURL.deletingLastPathComponent().appending(path: "feedback")
    #else
        return Bundle.main.bundleURL.appending(path: "feedback")
    #endif
}()

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

    func run(_ arguments: [String], environment: [String: String] = [:]) throws -> Outcome {
        let process = process(arguments, environment: environment)
        let (output, errors) = (
            url.appending(path: ".out-\(UUID().uuidString)"), url.appending(path: ".err-\(UUID().uuidString)")
        )
        for file in [output, errors] { try Data().write(to: file) }
        defer { for file in [output, errors] { try? FileManager.default.removeItem(at: file) } }
        process.standardInput = FileHandle.nullDevice
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
        #expect(text.status == 0 && text.output.count == 41 && text.errors.isEmpty)
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

        let evaluated = try place.run(["evaluate", "run", "--json"])
        let object = try #require(
            try JSONSerialization.jsonObject(with: Data(evaluated.output.utf8)) as? [String: Double])
        #expect(Set(object.keys) == ["loss", "bitsPerCharacter", "perplexity", "accuracy", "tokens"])
        let length = try Data(contentsOf: place.text).count
        #expect(object["tokens"] == Double(length - Int(0.9 * Double(length)) - 1))
        #expect(abs(object["bitsPerCharacter"]! - object["loss"]! / log(2)) < 1e-9)
        let narrow = try place.run(["evaluate", "run", "--json", "--precision", "int8"])
        let narrowObject = try #require(
            try JSONSerialization.jsonObject(with: Data(narrow.output.utf8)) as? [String: Double])
        #expect(narrowObject["tokens"] == object["tokens"])
        #expect(abs(narrowObject["loss"]! - object["loss"]!) < 0.02)
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

    @Test(arguments: [(SIGINT, Int32(130)), (SIGTERM, Int32(143))])
    func interruptedRunsSaveAndGoOn(signal: Int32, status: Int32) throws {
        let place = try Workplace()
        let process = place.process(
            ["train"] + place.small + [
                "--steps", "4000", "--eval-interval", "100000", "--checkpoint-interval", "100000", "--output", "run",
            ])
        let errors = Pipe()
        (process.standardOutput, process.standardError) = (FileHandle.nullDevice, errors)
        try process.run()
        // Once the first step is taken.
        let metrics = place.url.appending(path: "run/metrics.jsonl")
        while process.isRunning, (try? Data(contentsOf: metrics))?.isEmpty != false { usleep(10_000) }
        kill(process.processIdentifier, signal)
        process.waitUntilExit()
        #expect(process.terminationReason == .exit && process.terminationStatus == status)
        let said = String(decoding: errors.fileHandleForReading.availableData, as: UTF8.self)
        #expect(said.contains("feedback train --resume run"), "\(said)")
        let names = try FileManager.default.contentsOfDirectory(
            atPath: place.url.appending(path: "run/checkpoints").path)
        #expect(names.count { $0.hasPrefix("step-") } == 1)

        let differing = try place.run(["train", "--resume", "run", "--layers", "2"])
        #expect(differing.status == 1 && differing.errors.contains("the run run has layers 1, not 2"))
        let resumed = try place.run(["train", "--resume", "run"])
        #expect(resumed.status == 0 && resumed.output == "run/checkpoints/step-00004000\n", "\(resumed.errors)")
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
    /// same bytes as one that was left alone.
    @Test func killedRunsGoOn() throws {
        let place = try Workplace()
        let often = [
            "--checkpoint-interval", "1", "--eval-interval", "7", "--curriculum", "0:8,15:16", "--accumulate", "2",
        ]
        #expect(try place.train("whole", steps: 60, often).status == 0)
        var arguments = ["train"] + place.small + ["--steps", "60", "--output", "run"] + often
        var kills = 0
        while kills < Int(ProcessInfo.processInfo.environment["FEEDBACK_TEST_KILLS"] ?? "6")! {
            let process = place.process(arguments)
            (process.standardOutput, process.standardError) = (FileHandle.nullDevice, FileHandle.nullDevice)
            try process.run()
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
        let json = try place.run(["verify", file, "--json"])
        let object = try #require(try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any])
        #expect(object["passed"] as? Bool == true && (object["tensors"] as? [Any])?.count == 57)
    }

    @Test func benchmarksBesideTheLimit() throws {
        let place = try Workplace()
        let small = ["--layers", "1", "--d-model", "16", "--heads", "2", "--d-ff", "32", "--steps", "3"]
        let names: Set = [
            "preset", "precision", "threads", "tokensPerSecond", "limitTokensPerSecond", "utilization",
            "peakMemoryBytes", "phases",
        ]
        for arguments in [
            ["train", "--preset", "demo", "--threads", "2", "--sequence-length", "8"],
            ["generate", "--preset", "labml"],
        ] {
            let outcome = try place.run(["benchmark"] + arguments + small + ["--json"])
            #expect(outcome.status == 0, "\(outcome.errors)")
            let object = try #require(
                try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any])
            #expect(names.isSubset(of: object.keys))
            #expect(object["preset"] as? String == arguments[2] && object["precision"] as? String == "float32")
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

    /// Bad input: exit status 1, one line that names what is wrong, nothing on standard output, nothing written.
    @Test func badInputGetsOneClearLine() throws {
        let place = try Workplace()
        _ = try place.train("run", steps: 2)
        try Data().write(to: place.url.appending(path: "empty.txt"))
        try Data([0x61, 0xff]).write(to: place.url.appending(path: "latin1.txt"))
        try Data("short".utf8).write(to: place.url.appending(path: "short.txt"))
        try Data("layer: 2".utf8).write(to: place.url.appending(path: "wrong.yaml"))
        try Data(repeating: 7, count: 100).write(to: place.url.appending(path: "junk.safetensors"))
        for name in ["config.json", "model.safetensors", "tokenizer.json"] {
            let copy = place.url.appending(path: "without-\(name)")
            try FileManager.default.copyItem(at: place.url.appending(path: "run/checkpoints/step-00000002"), to: copy)
            try FileManager.default.removeItem(at: copy.appending(path: name))
        }
        let damaged = place.url.appending(path: "damaged")
        try FileManager.default.copyItem(at: place.url.appending(path: "run/checkpoints/step-00000002"), to: damaged)
        try Data("{".utf8).write(to: damaged.appending(path: "model.safetensors"))
        let edited = place.url.appending(path: "edited/config.yaml")
        try FileManager.default.copyItem(
            at: place.url.appending(path: "run"), to: edited.deletingLastPathComponent())
        try String(contentsOf: edited, encoding: .utf8).replacingOccurrences(of: "d-ff: 32", with: "d-ff: 99")
            .write(to: edited, atomically: true, encoding: .utf8)
        let train = ["train"] + place.small + ["--steps", "2", "--output", "new"]
        func with(_ flag: String, _ value: String) -> [String] {
            var arguments = train
            if let index = arguments.firstIndex(of: flag) { arguments.removeSubrange(index...index + 1) }
            return arguments + [flag, value]
        }
        let before = try FileManager.default.contentsOfDirectory(atPath: place.url.path).sorted()
        let cases: [([String], String)] = [
            (with("--data", "missing.txt"), "there is no data set or file missing.txt"),
            (with("--data", "empty.txt"), "is empty"), (with("--data", "latin1.txt"), "is not UTF-8 text"),
            (with("--data", "short.txt"), "5 characters; it needs at least 20"),
            (with("--data", "."), "it is not a file"),
            (with("--heads", "3"), "heads (3) must divide d-model (16)"), (with("--layers", "0"), "layers is 0"),
            (with("--layers", "-2"), "layers is -2"),
            (with("--layers", "99999999999999999999"), "layers is 99999999999999999999"),
            (with("--d-model", "1000000"), "d-model is 1000000"), (with("--batch-size", "0"), "batch-size is 0"),
            (with("--learning-rate", "nan"), "learning-rate is nan"),
            (with("--learning-rate", "inf"), "learning-rate is inf"),
            (with("--learning-rate", "-1"), "learning-rate is -1"),
            (with("--gradient-clip", "1e999"), "gradient-clip is 1e999"),
            (with("--memory-window", "5000"), "memory-window is 5000; it must be a whole number from 1 to 4096"),
            (with("--threads", "0"), "threads is 0"), (with("--memory", "none"), "memory is none; it must be one of"),
            (with("--d-model", "65536") + ["--d-ff", "1048576", "--layers", "900"], "of memory; this machine has"),
            (with("--sequence-length", "60000"), "a sequence-length of 60000 needs 60001"),
            (with("--curriculum", "0:8,5"), "step:length pairs such as"),
            (with("--curriculum", "0:8,9:16,5:32"), "step 5 after step 9"),
            (with("--curriculum", "0:8,9:60000"), "a sequence-length of 60000 needs 60001"),
            (with("--patience", "0"), "patience is 0"), (with("--keep", "0"), "keep is 0"),
            (with("--accumulate", "0"), "accumulate is 0"),
            (["train", "--resume", "run", "--d-model", "32"], "has d-model 16, not 32"),
            (
                ["train", "--resume", "edited"],
                "config.yaml has d-ff 99, but its newest checkpoint was trained with d-ff 32"
            ),
            (with("--output", "run"), "run is not empty"), (with("--output", "text.txt/run"), "cannot create"),
            (with("--config", "wrong.yaml"), "did you mean layers?"), (with("--config", "none.yaml"), "cannot read"),
            (with("--init", "nowhere"), "cannot read"),
            (with("--d-model", "32") + ["--init", "run"], "has d-model 16, this run has 32"),
            (with("--tokenizer", "words") + ["--init", "run"], "another vocabulary"),
            (with("--init", "without-model.safetensors"), "model.safetensors"),
            (with("--init", "damaged"), "not a valid safetensors file"),
            (with("--data", "copy") + ["--tokenizer", "bytes"], "has symbols of its own"),
            (["evaluate", "run", "--data", "text.txt", "--split", "test"], "has no test part"),
            (["evaluate", "run", "--data", "copy"], "tokens are not those of copy"),
            (["train", "--resume", "nowhere"], "is not a run"),
            (["generate", "nowhere", "--prompt", "a"], "nowhere/config.json"),
            (["generate", "without-config.json", "--prompt", "a"], "config.json"),
            (["generate", "without-model.safetensors", "--prompt", "a"], "model.safetensors"),
            (["generate", "without-tokenizer.json", "--prompt", "a"], "tokenizer.json"),
            (
                ["generate", "run", "--prompt", "cat?"],
                "the character \"?\" at position 3 is not in the model's vocabulary"
            ),
            (["generate", "run", "--prompt", ""], "the prompt is empty"),
            (["generate", "run", "--prompt", "a", "--temperature", "-1"], "temperature is -1"),
            (["generate", "run", "--prompt", "a", "--top-p", "2"], "top-p is 2"),
            (["generate", "run", "--prompt", "a", "--top-k", "0"], "top-k is 0"),
            (["generate", "run", "--prompt", "a", "--max-tokens", "-1"], "max-tokens is -1"),
            (["generate", "run", "--prompt", "a", "--memory-window", "0"], "memory-window is 0"),
            (["evaluate", "run", "--data", "latin1.txt"], "is not UTF-8 text"),
            (["evaluate", "run", "--memory-window", "9999"], "memory-window is 9999"),
            (["evaluate", "run", "--threads", "0"], "threads is 0"),
            (["verify", "junk.safetensors"], "not a valid safetensors file"), (["verify", "none"], "cannot read"),
            (["benchmark", "train", "--heads", "3"], "heads (3) must divide d-model (128)"),
            (["benchmark", "train", "--steps", "0"], "steps is 0"),
            (
                ["benchmark", "train", "--sequence-length", "65536", "--batch-size", "65536", "--threads", "1024"],
                "of memory"
            ),
            (["benchmark", "generate", "--d-model", "65536", "--layers", "1000"], "of memory; this machine has"),
            (["data", "fetch", "nothing"], "there is no data set nothing"),
        ]
        for (arguments, message) in cases {
            let outcome = try place.run(arguments)
            #expect(outcome.status == 1, "\(arguments): \(outcome.status) \(outcome.errors)")
            #expect(outcome.output.isEmpty, "\(arguments)")
            let lines = outcome.errors.split(separator: "\n")
            #expect(
                lines.count == 1 && lines[0].hasPrefix("Error: ") && lines[0].contains(message),
                "\(arguments): \(outcome.errors)")
            let after = try FileManager.default.contentsOfDirectory(atPath: place.url.path).sorted()
            #expect(after == before, "\(arguments) left something behind")
        }
    }

    @Test func trainsOnTasks() throws {
        let place = try Workplace()
        let arguments = place.small.dropFirst(2) + ["--steps", "20", "--sample-interval", "10", "--output", "run"]
        let trained = try place.run(["train", "--data", "reverse", "--memory-window", "24"] + arguments)
        #expect(
            trained.status == 0 && trained.errors.contains("accuracy") && trained.errors.contains(" = "),
            "\(trained.errors)")
        let yaml = try String(contentsOf: place.url.appending(path: "run/config.yaml"), encoding: .utf8)
        for line in ["tokenizer: symbols", "streams: true", "memory-window: 24"] { #expect(yaml.contains(line)) }
        let evaluated = try place.run(["evaluate", "run", "--split", "test"])
        #expect(evaluated.status == 0 && evaluated.output.contains("tokens of reverse (test)"), "\(evaluated.errors)")
        #expect(evaluated.output.contains("up to 24 before it, memory carried, in 32 streams"))
        let wrong = try place.run(["train", "--data", "reverse", "--tokenizer", "words", "--output", "new"])
        #expect(wrong.status == 1 && wrong.errors.contains("symbols of its own"))
        let other = try place.run(["evaluate", "run", "--data", "text.txt"])
        #expect(other.status == 1 && other.errors.contains("the word \"the\" at position 0"))
    }

    @Test func dataSetsByName() throws {
        let place = try Workplace()
        let listed = try place.run(["data", "list"])
        #expect(
            listed.status == 0 && listed.output.contains("tiny_shakespeare  1,115,394 bytes")
                && listed.output.contains("not here yet") && listed.output.contains("variables-3  built in"))
        // A text of that name that is not the text.
        try FileManager.default.copyItem(at: place.text, to: place.url.appending(path: "tiny_shakespeare.txt"))
        let wrong = try place.run(["data", "fetch"], environment: ["FEEDBACK_DATA_DIR": place.url.path])
        #expect(wrong.status == 1 && wrong.errors.contains("is not the text tiny_shakespeare"))
    }
}
