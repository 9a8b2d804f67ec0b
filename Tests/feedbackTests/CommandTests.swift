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

        let evaluated = try place.run(["evaluate", "run", "--json"])
        let object = try #require(
            try JSONSerialization.jsonObject(with: Data(evaluated.output.utf8)) as? [String: Double])
        #expect(Set(object.keys) == ["loss", "bitsPerCharacter", "perplexity", "accuracy", "tokens"])
        let length = try Data(contentsOf: place.text).count
        #expect(object["tokens"] == Double(length - Int(0.9 * Double(length)) - 1))
        #expect(abs(object["bitsPerCharacter"]! - object["loss"]! / log(2)) < 1e-9)
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
            ["train"] + place.small + ["--steps", "4000", "--eval-interval", "100000", "--output", "run"])
        let errors = Pipe()
        (process.standardOutput, process.standardError) = (FileHandle.nullDevice, errors)
        try process.run()
        while !FileManager.default.fileExists(atPath: place.url.appending(path: "run/metrics.jsonl").path) {
            usleep(20_000)
        }
        usleep(300_000)
        kill(process.processIdentifier, signal)
        process.waitUntilExit()
        #expect(process.terminationReason == .exit && process.terminationStatus == status)
        let said = String(decoding: errors.fileHandleForReading.availableData, as: UTF8.self)
        #expect(said.contains("feedback train --resume run"), "\(said)")
        let names = try FileManager.default.contentsOfDirectory(
            atPath: place.url.appending(path: "run/checkpoints").path)
        #expect(names.count == 1)

        let differing = try place.run(["train", "--resume", "run", "--layers", "2"])
        #expect(differing.status == 1 && differing.errors.contains("the run run has layers 1, not 2"))
        let resumed = try place.run(["train", "--resume", "run"])
        #expect(resumed.status == 0 && resumed.output == "run/checkpoints/step-00004000\n", "\(resumed.errors)")
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

    @Test func wrongUsageExitsWith64() throws {
        let place = try Workplace()
        for arguments in [
            ["train", "--no-such-flag"], ["nonsense"], ["generate"], ["generate", "m"], ["train", "--layers", "two"],
            ["train", "--preset", "huge"], ["train", "--steps", "3", "--epochs", "4"],
            ["train", "--resume", "x", "--preset", "demo"],
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
            (with("--data", "short.txt"), "5 characters"), (with("--data", "."), "it is not a file"),
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
            (with("--output", "run"), "run is not empty"), (with("--output", "text.txt/run"), "cannot create"),
            (with("--config", "wrong.yaml"), "did you mean layers?"), (with("--config", "none.yaml"), "cannot read"),
            (with("--init", "nowhere"), "cannot read"), (["train", "--resume", "nowhere"], "is not a run"),
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

    @Test func dataSetsByName() throws {
        let place = try Workplace()
        let listed = try place.run(["data", "list"])
        #expect(
            listed.status == 0 && listed.output.contains("tiny_shakespeare  1,115,394 bytes")
                && listed.output.contains("not here yet"))
        // A text of that name that is not the text.
        try FileManager.default.copyItem(at: place.text, to: place.url.appending(path: "tiny_shakespeare.txt"))
        let wrong = try place.run(["data", "fetch"], environment: ["FEEDBACK_DATA_DIR": place.url.path])
        #expect(wrong.status == 1 && wrong.errors.contains("is not the text tiny_shakespeare"))
    }
}
