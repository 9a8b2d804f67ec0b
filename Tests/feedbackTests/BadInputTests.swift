import Foundation
import Testing

@Suite struct BadInputTests {
    /// Bad input: exit status 1, one line that names what is wrong, nothing on standard output, nothing written.
    @Test func badInputGetsOneClearLine() throws {
        let place = try Workplace()
        _ = try place.train("run", steps: 2)
        try Data().write(to: place.url.appending(path: "empty.txt"))
        try Data([0x61, 0xff]).write(to: place.url.appending(path: "latin1.txt"))
        try Data("short".utf8).write(to: place.url.appending(path: "short.txt"))
        try Data("{\"body\": \"some text\"}\n".utf8).write(to: place.url.appending(path: "lines.jsonl"))
        try Data(#"{"normalizer":{"type":"NFC"},"model":{"type":"BPE","vocab":{},"merges":["a b"]}}"#.utf8)
            .write(to: place.url.appending(path: "nfc.json"))
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
        let cases: [([String], String)] = [
            (with("--data", "missing.txt"), "there is no data set or file missing.txt"),
            (with("--data", "empty.txt"), "is empty"), (with("--data", "latin1.txt"), "is not UTF-8 text"),
            (with("--data", "short.txt"), "5 characters; it needs at least 20"),
            (with("--data", "."), "is not UTF-8 text"),
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
            (with("--d-model", "65536") + ["--d-ff", "1048576", "--layers", "900"], "of memory; there are"),
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
            (with("--init", "nowhere"), "there is no folder nowhere"),
            (with("--d-model", "32") + ["--init", "run"], "has d-model 16, this run has 32"),
            (with("--tokenizer", "words") + ["--init", "run"], "another vocabulary"),
            (with("--init", "without-model.safetensors"), "model.safetensors"),
            (with("--init", "damaged"), "not a valid safetensors file"),
            (with("--data", "copy") + ["--tokenizer", "bytes"], "has symbols of its own"),
            (with("--tokenizer", "letters"), "tokenizer is letters; it must be one of"),
            (with("--tokenizer", "./none.json"), "cannot read"),
            (with("--tokenizer", "text.txt"), "is not a tokenizer"),
            (with("--tokenizer", "."), "cannot read"),
            (with("--tokenizer", "nfc.json"), "its normalizer NFC is not known here"),
            (with("--vocabulary-size", "300"), "which only a BPE tokenizer has"),
            (with("--tokenizer", "bpe") + ["--vocabulary-size", "70000"], "from 257 to 65536"),
            (with("--validation", "missing.txt"), "there is no data set or file missing.txt"),
            (with("--validation", "empty.txt"), "is empty"),
            (with("--data", "copy") + ["--validation", "text.txt"], "leave out --validation"),
            (with("--data", "lines.jsonl"), "has no text \"text\" in line 1; give --field: body"),
            (with("--data", "lines.jsonl") + ["--field", "name"], "has no text \"name\" in line 1"),
            (with("--data", "copy") + ["--sample-prompt", "a"], "samples of copy are sequences of its own"),
            (with("--lessons", "0:1-3"), "lessons is for a task's fresh sequences"),
            (with("--data", "copy") + ["--lessons", "0:3-1"], "start:difficulty pairs"),
            (["evaluate", "run", "--data", "text.txt", "--split", "test"], "has no test part"),
            (["evaluate", "run", "--data", "copy"], "tokens are not those of copy"),
            (["train", "--resume", "nowhere"], "there is no folder nowhere; there is no run nowhere"),
            (["generate", "nowhere", "--prompt", "a"], "there is no folder nowhere; there is no run nowhere"),
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
            (["evaluate", "run", "--reset", "0"], "reset is 0"),
            (["evaluate", "run", "--threads", "0"], "threads is 0"),
            (["verify", "junk.safetensors"], "not a valid safetensors file"), (["verify", "none"], "cannot read"),
            (["benchmark", "train", "--heads", "3"], "heads (3) must divide d-model (128)"),
            (["benchmark", "train", "--steps", "0"], "steps is 0"),
            (
                ["benchmark", "train", "--sequence-length", "65536", "--batch-size", "65536", "--threads", "1024"],
                "of memory"
            ),
            (
                ["benchmark", "generate", "--precision", "int4"],
                "precision is int4; it must be one of float32, bfloat16, int8"
            ),
            (["benchmark", "generate", "--d-model", "65536", "--layers", "1000"], "of memory; there are"),
            (["data", "fetch", "nothing"], "there is no data set nothing"),
        ]
        for (arguments, message) in cases { try place.expectRefusal(of: arguments, message) }
    }

    /// The same of texts from several places, of prompts, and of tokenizers' files.
    @Test func badTextsGetOneClearLine() throws {
        let place = try Workplace()
        #expect(try place.train("run", steps: 2).status == 0)
        #expect(try place.train("bpe", steps: 2, ["--tokenizer", "bpe", "--vocabulary-size", "262"]).status == 0)
        func write(_ name: String, _ text: String) throws {
            try Data(text.utf8).write(to: place.url.appending(path: name))
        }
        // The last is the cache, which keeps a text that standard input has had.
        for folder in ["none", "mixed", "feedback"] {
            try FileManager.default.createDirectory(
                at: place.url.appending(path: folder), withIntermediateDirectories: true)
        }
        for name in ["latin1.txt", "mixed/latin1.txt"] {
            try Data([0x61, 0xff]).write(to: place.url.appending(path: name))
        }
        for (name, text) in [
            ("empty.txt", ""), ("greek.txt", "αβγ"), ("mixed/a.txt", "a text"),
            ("cut.jsonl", "{\"text\": \"a\"}\n{\"text"),
            ("array.jsonl", "[1]"), ("number.jsonl", "{\"text\": 1, \"a\\nb\": \"x\"}"), ("blank.jsonl", "\n \n"),
            ("surrogate.jsonl", "{\"text\": \"\\ud800\"}"), ("deep.jsonl", String(repeating: "[", count: 100_000)),
        ] { try write(name, text) }
        let own = try String(
            contentsOf: place.url.appending(path: "bpe/checkpoints/step-00000002/tokenizer.json"), encoding: .utf8)
        for (number, (part, other)) in [
            ("\"type\":\"BPE\"", "\"type\":\"Unigram\""), ("\"dropout\":null", "\"dropout\":0.1"),
            ("\"byte_fallback\":false", "\"byte_fallback\":true"),
            ("\"add_prefix_space\":false", "\"add_prefix_space\":true"),
            ("\"merges\":[", "\"merges\":[\"a b\","), ("\"vocab\":{", "\"vocab\":{\"\\n\":261,"),
            ("\"post_processor\":null", "\"post_processor\":{\"type\":\"a\\nb\"}"), ("}", ""),
        ].enumerated() {
            #expect(own.contains(part))
            try write("\(number).json", own.replacingOccurrences(of: part, with: other))
        }
        #expect(mkfifo(place.url.appending(path: "pipe").path, 0o600) == 0)

        func train(_ data: String, _ more: String...) -> [String] {
            ["train"] + place.small.map { $0 == "text.txt" ? data : $0 } + ["--steps", "2", "--output", "new"] + more
        }
        func prompt(_ file: String) -> [String] { ["generate", "run", "--prompt-file", file] }
        let cases: [([String], String)] = [
            (train("text.txt,missing.txt"), "there is no data set or file missing.txt"),
            (train("text.txt,latin1.txt"), "latin1.txt is not UTF-8 text"), (train(","), "no data is named"),
            (train("text.txt,copy"), "there is no data set or file copy"),
            (train("text.txt,pipe"), "pipe is a pipe; give -"), (train("none"), "there is no file in"),
            (train("mixed"), "mixed/latin1.txt is not UTF-8 text"), (train("cut.jsonl"), "is not JSON in line 2"),
            (train("array.jsonl"), "every line must be an object"), (train("number.jsonl"), "give --field: a b"),
            (train("blank.jsonl"), "is empty"), (train("surrogate.jsonl"), "half of a surrogate pair"),
            (train("deep.jsonl"), "nested deeper"), (train("text.txt,cut.jsonl"), "is not JSON in line 2"),
            (train("text.txt", "--field", "text"), "text.txt has none; leave it out"),
            (train("copy", "--field", "text"), "field is for .jsonl files, of which copy has none"),
            (train("text.txt", "--validation", "latin1.txt"), "is not UTF-8 text"),
            (train("text.txt", "--validation", "none"), "there is no file in"),
            (train("text.txt", "--validation", "cut.jsonl"), "is not JSON in line 2"),
            (train("text.txt", "--validation", "copy"), "there is no data set or file copy"),
            (train("text.txt", "--validation", "-"), "standard input is empty"),
            (train("-"), "standard input is empty"), (["evaluate", "run", "--data", "-"], "standard input is empty"),
            (prompt("missing.txt"), "cannot read"), (prompt("latin1.txt"), "is not UTF-8 text"),
            (prompt("empty.txt"), "the prompt is empty"), (prompt("none"), "it is not a file"),
            (prompt("pipe"), "it is not a file"), (prompt("greek.txt"), "(U+03B1)"),
            (prompt("-"), "the prompt is empty"),
            (train("text.txt", "--tokenizer", "0.json"), "is of a kind that is not known here"),
            (train("text.txt", "--tokenizer", "1.json"), "its model's dropout is not known here"),
            (train("text.txt", "--tokenizer", "2.json"), "its model's byte_fallback is not known here"),
            (train("text.txt", "--tokenizer", "3.json"), "has add_prefix_space"),
            (train("text.txt", "--tokenizer", "4.json"), "its merge 0 is not of two tokens"),
            (train("text.txt", "--tokenizer", "5.json"), "cannot be used"),
            (train("text.txt", "--tokenizer", "6.json"), "its post_processor a b is not known here"),
            (train("text.txt", "--tokenizer", "7.json"), "is not a tokenizer"),
            (train("text.txt", "--tokenizer", "./pipe"), "it is not a file"),
        ]
        for (arguments, message) in cases { try place.expectRefusal(of: arguments, message) }
        try place.expectRefusal(of: train("-"), "is not UTF-8", input: place.url.appending(path: "latin1.txt"))
        let cache = place.url.appending(path: "feedback").path
        #expect(try FileManager.default.contentsOfDirectory(atPath: cache).isEmpty)
        try place.expectRefusal(of: prompt("-"), "is not UTF-8", input: place.url.appending(path: "latin1.txt"))
    }
}
