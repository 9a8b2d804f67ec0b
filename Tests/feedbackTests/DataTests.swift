import Foundation
import Testing

/// Where a run's text may come from.
@Suite struct DataTests {
    /// Several files and a folder are one text; standard input becomes a file that the run can go on with.
    @Test func filesFolderAndStandardInput() throws {
        let place = try Workplace()
        let text = try Data(contentsOf: place.text)
        try FileManager.default.createDirectory(
            at: place.url.appending(path: "corpus"), withIntermediateDirectories: true)
        try text.prefix(3000).write(to: place.url.appending(path: "corpus/1.txt"))
        try text.dropFirst(3000).write(to: place.url.appending(path: "corpus/2.txt"))

        let expected = try place.train("one", steps: 5)
        #expect(expected.status == 0, "\(expected.errors)")
        let loss = try #require(validation(expected))
        for (name, data) in [("folder", "corpus"), ("several", "corpus/1.txt,corpus/2.txt")] {
            let outcome = try place.train(name, steps: 5, ["--data", data])
            #expect(validation(outcome) == loss, "\(outcome.errors)")
            #expect(try place.run(["evaluate", name]).status == 0)
            #expect(try place.run(["train", "--resume", name, "--steps", "6"]).status == 0)
        }

        let input = try place.run(
            ["train"] + place.small + ["--data", "-", "--steps", "5", "--output", "input"], input: place.text)
        #expect(validation(input) == loss, "\(input.errors)")
        #expect(try place.run(["train", "--resume", "input", "--steps", "6"]).status == 0)
    }

    /// A tokenizer of byte pairs stays the run's, whatever becomes of the file that it came from; what it was validated by, it is
    /// evaluated on.
    @Test func bytePairsAndValidation() throws {
        let place = try Workplace()
        let more = ["--validation", "other.txt"]
        try Data("{\"body\":\"\(String(repeating: "an other text ", count: 9))\"}\n".utf8)
            .write(to: place.url.appending(path: "other.jsonl"))
        try Data(String(repeating: "an other text ", count: 9).utf8).write(to: place.url.appending(path: "other.txt"))
        let pairs = try place.train("pairs", steps: 3, ["--tokenizer", "bpe", "--vocabulary-size", "270"] + more)
        #expect(pairs.status == 0, "\(pairs.errors)")
        func evaluation(_ run: String, _ more: [String] = []) throws -> String {
            let outcome = try place.run(["evaluate", run, "--json"] + more)
            #expect(outcome.status == 0, "\(outcome.errors)")
            return outcome.output
        }
        #expect(try evaluation("pairs").contains("/other.txt\",\"loss\""))
        // 126 characters but for the first token's, and the new line after a line's text.
        #expect(
            try evaluation("pairs", ["--data", "other.jsonl", "--field", "body", "--split", "all"]).contains(
                "other.jsonl"))

        let own = place.url.appending(path: "own.json")
        try FileManager.default.copyItem(
            at: place.url.appending(path: "pairs/checkpoints/step-00000003/tokenizer.json"), to: own)
        let file = try place.train("file", steps: 3, ["--tokenizer", "./own.json"] + more)
        #expect(validation(file) == validation(pairs) && validation(file) != nil, "\(file.errors)")
        try FileManager.default.removeItem(at: own)
        for run in ["pairs", "file"] {
            let outcome = try place.run(["train", "--resume", run, "--steps", "4"])
            #expect(outcome.status == 0, "\(outcome.errors)")
        }
        #expect(try place.train("next", steps: 1, ["--init", "pairs"]).status == 0)
        let few = try place.train("few", steps: 1, ["--tokenizer", "bpe", "--vocabulary-size", "60000"])
        #expect(few.status == 0 && few.errors.contains("no other pair of tokens is in the text twice"), "\(few.errors)")
        let text = try place.run(["generate", "pairs", "--prompt", "É 👍 any", "--max-tokens", "9"])
        #expect(text.status == 0, "\(text.errors)")
    }

    private func validation(_ outcome: Outcome) -> Substring? {
        outcome.status == 0 ? outcome.errors.split(separator: "\n").first { $0.contains("validation loss") } : nil
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
}
