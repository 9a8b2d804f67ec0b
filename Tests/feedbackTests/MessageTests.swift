import FeedbackTransformer
import Foundation
import Testing

/// What a command says of a failure: one line of bounded length that names the file, in words that help.
@Suite struct MessageTests {
    private func refusal(_ place: Workplace, _ arguments: [String], environment: [String: String] = [:]) throws
        -> String
    {
        let outcome = try place.run(arguments, environment: environment)
        #expect(outcome.status == 1 && outcome.output.isEmpty, "\(arguments): \(outcome.status) \(outcome.errors)")
        let errors = outcome.errors.split(separator: "\n").filter { $0.hasPrefix("Error: ") }
        #expect(errors.count == 1 && outcome.errors.hasSuffix("\(errors.last ?? "")\n"), "\(outcome.errors)")
        return String(errors.last ?? "")
    }

    @Test func damagedFilesAreNamed() throws {
        let place = try Workplace()
        for name in ["a", "b", "c"] { #expect(try place.train(name, steps: 2, ["--streams"]).status == 0) }
        let checkpoint = "b/checkpoints/step-00000002"
        for name in ["model", "optimizer", "memory"] {
            let file = place.url.appending(path: "\(checkpoint)/\(name).safetensors")
            let whole = try Data(contentsOf: file)
            for (damaged, words) in [
                (whole.dropLast(), "not a valid safetensors file"), (Data("{".utf8), "not a valid safetensors file"),
                (Data([2, 0, 0, 0, 0, 0, 0, 0]) + Data("{}".utf8), ".safetensors"),
            ] {
                try damaged.write(to: file)
                let resumed = try refusal(place, ["train", "--resume", "b", "--steps", "4"])
                #expect(resumed.contains("\(checkpoint)/\(name).safetensors") && resumed.contains(words), "\(resumed)")
                if name == "model" {
                    let served = try refusal(place, ["serve", "a", "b", "c", "--port", "0"])
                    #expect(served.contains("\(checkpoint)/model.safetensors") && served.contains(words), "\(served)")
                }
                let verified = try refusal(place, ["verify", file.path])
                #expect(verified.contains("\(name).safetensors: ") && verified.contains(words), "\(verified)")
            }
            try whole.write(to: file)
        }
        for name in ["config", "training"] {
            let file = place.url.appending(path: "\(checkpoint)/\(name).json")
            let whole = try Data(contentsOf: file)
            try Data("[1]".utf8).write(to: file)
            let message = try refusal(place, ["train", "--resume", "b", "--steps", "4"])
            #expect(message.contains("\(checkpoint)/\(name).json") && message.contains("must be one JSON object"))
            try whole.write(to: file)
        }
    }

    /// What the system says, not the number that Foundation gives it.
    @Test func reasonsAreTheSystems() throws {
        let place = try Workplace()
        #expect(try place.train("run", steps: 2).status == 0)
        let fetch = ["data", "fetch"]
        let cases: [([String], [String: String])] = [
            (["train"] + place.small + ["--steps", "2", "--output", "text.txt/a/run"], [:]),
            (["runs", "list", "--runs", "text.txt/a/runs.sqlite"], [:]),
            (["runs", "list"], ["XDG_DATA_HOME": place.text.path]),
            (["verify", "text.txt/fixture"], [:]),
        ]
        for (arguments, environment) in cases {
            let message = try refusal(place, arguments, environment: environment)
            #expect(message.contains("Not a directory"), "\(arguments): \(message)")
        }
        let noFolder = try refusal(place, ["evaluate", "text.txt/run"])
        #expect(noFolder.contains("there is no folder text.txt/run; there is no run text.txt/run in "), "\(noFolder)")
        // Either the network or the folder is missing; neither has a number.
        let fetched = try refusal(place, fetch, environment: ["XDG_CACHE_HOME": place.text.path])
        #expect(!fetched.contains("Cocoa") && !fetched.contains("rror 51"), "\(fetched)")
        #if os(Linux)
            let unreadable = try refusal(place, ["evaluate", "run", "--data", "/proc/self/mem"])
            #expect(unreadable.contains("Input/output error"), "\(unreadable)")
        #endif
    }

    private static let settings: [(String, String)] = [
        ("layers: [" + String(repeating: "x", count: 20_000), "in line 2, column 1"),
        ("layers: \"" + String(repeating: "x", count: 20_000), "in line"),
        ("layers: " + String(repeating: "1", count: 20_000), "it must be a whole number"),
        ("memory: |\n  a\n  b\n", "it must be one of"), ("memory: \"\\e[31m\"", "it must be one of"),
        (String(repeating: "x", count: 20_000) + ": 1", "in line 1, column 20001"),
        (String(repeating: "x", count: 1000) + ": 1", "did you mean"),
        ("layers: 1\nlayers: 2", "layers is there twice"), ("layers: 1\u{1}", "not YAML"),
        ("curriculum: 0:" + String(repeating: "1", count: 20_000), "step:length pairs"),
    ]

    /// What is wrong with a long or broken line does not repeat it.
    @Test(arguments: settings) func settingsAreNotRepeatedAtLength(yaml: String, words: String) throws {
        let place = try Workplace()
        try Data(yaml.utf8).write(to: place.url.appending(path: "run.yaml"))
        let message = try refusal(place, ["train"] + place.small + ["--steps", "2", "--config", "run.yaml"])
        #expect(message.contains("run.yaml") && message.contains(words) && message.count < 1100, "\(message)")
        #expect(!message.contains("\u{1b}"))
    }

    @Test func shortTextsAreCountedRight() throws {
        let place = try Workplace()
        let short: [(String, [String], String)] = [
            ("a", [], "has fewer than 2 characters"), ("ab", [], "has 2 characters"),
            (" \n ", ["--tokenizer", "words"], "has fewer than 2 words"),
            ("é", ["--tokenizer", "bytes"], "has 2 bytes"),
        ]
        for (text, more, words) in short {
            try Data(text.utf8).write(to: place.text)
            let message = try refusal(place, ["train"] + place.small + ["--steps", "2"] + more)
            #expect(message.contains("text.txt \(words); it needs at least 20"), "\(message)")
        }
    }
}
