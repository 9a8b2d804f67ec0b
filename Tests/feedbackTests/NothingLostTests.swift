import FeedbackTraining
import Foundation
import TestedCommand
import Testing

/// What hostile or unlucky use found: nothing is lost, and nothing is taken for something else.
@Suite struct NothingLostTests {
    /// A checkpoint, a link to one, and its run mean the same run, and so the same data; figures say which.
    @Test func aCheckpointKnowsItsRun() throws {
        let place = try Workplace()
        let trained = try place.train("run", steps: 10, ["--tokenizer", "bytes"])
        let checkpoint = trained.output.trimmingCharacters(in: .newlines)
        let text = place.url.appending(path: "text.txt").resolvingSymlinksInPath().path
        for model in [checkpoint, "run/checkpoints/last", "run"] {
            let figures = try place.run(["evaluate", model, "--json"]).object
            #expect(figures["data"] as? String == text && figures["split"] as? String == "validation")
        }
        try Data("layers: nonsense".utf8).write(to: place.url.appending(path: "run/config.yaml"))
        let damaged = try place.run(["evaluate", checkpoint])
        #expect(damaged.status == 1 && damaged.errors.contains("layers is nonsense"))
    }

    /// A second signal, where it is one, stops at once.
    @Test func theSecondSignalStopsAtOnce() throws {
        let place = try Workplace()
        let process = place.process(
            ["train"] + place.small + [
                "--steps", "10", "--batch-size", "4096", "--sequence-length", "512", "--output", "run",
            ])
        (process.standardOutput, process.standardError) = (FileHandle.nullDevice, FileHandle.nullDevice)
        try process.run()
        let metrics = place.url.appending(path: "run/metrics.jsonl")
        while process.isRunning, !FileManager.default.fileExists(atPath: metrics.path) { usleep(10_000) }
        usleep(300_000)
        for _ in 0..<2 {
            kill(process.processIdentifier, SIGTERM)
            usleep(400_000)
        }
        process.waitUntilExit()
        #expect(process.terminationReason == .exit && process.terminationStatus == 143)
        let names = try FileManager.default.contentsOfDirectory(
            atPath: place.url.appending(path: "run/checkpoints").path)
        #expect(!names.contains { $0.hasPrefix("step-") })
    }

    #if os(Linux)
        /// A limit of the process's memory is one that settings are held to.
        @Test func memoryHasLimits() throws {
            let place = try Workplace()
            let line =
                ["ulimit -v 4000000; exec", command.path, "train"] + place.small
                + ["--layers", "4", "--d-model", "2048", "--d-ff", "65536"]
            let outcome = try place.run(["-c", line.joined(separator: " ")], executable: URL(filePath: "/bin/sh"))
            #expect(outcome.status == 1 && outcome.errors.contains("of memory; there are 3.8 GiB"), "\(outcome.errors)")
        }
    #endif

    /// Wherever the command stands, wherever the data is now, with other threads, and for longer.
    @Test func aRunGoesOnFromAnywhere() throws {
        let place = try Workplace()
        #expect(try place.train("run", steps: 10).status == 0)
        let elsewhere = place.url.appending(path: "elsewhere")
        try FileManager.default.createDirectory(at: elsewhere, withIntermediateDirectories: true)
        func resume(_ more: [String]) throws -> Outcome {
            try place.run(["train", "--resume", "../run"] + more, in: elsewhere)
        }
        let finished = try resume([])
        #expect(finished.status == 0 && finished.errors.contains("all 10 steps are taken"), "\(finished.errors)")
        let longer = try resume(["--steps", "14", "--threads", "1"])
        #expect(longer.status == 0 && longer.errors.contains("step 14/14"), "\(longer.errors)")
        #expect(longer.errors.contains("steps: 14 from here on") && longer.errors.contains("threads: 1 from here on"))
        let shorter = try resume(["--steps", "12"])
        #expect(shorter.status == 1 && shorter.errors.contains("has taken 14 steps"), "\(shorter.errors)")
        let other = try resume(["--layers", "2"])
        #expect(other.status == 1 && other.errors.contains("has layers 1, not 2"), "\(other.errors)")

        let moved = elsewhere.appending(path: "moved.txt")
        try FileManager.default.moveItem(at: place.url.appending(path: "text.txt"), to: moved)
        #expect(try resume(["--steps", "16"]).status == 1)
        let found = try resume(["--steps", "16", "--data", "moved.txt"])
        #expect(found.status == 0 && found.errors.contains("step 16/16"), "\(found.errors)")
        try Data("another text, long enough to be one, as it goes on and on".utf8).write(to: moved)
        #expect(try resume(["--steps", "18"]).status == 1)
    }

    /// Runs that begin within a second each have a folder; of several in one folder, one has it.
    @Test func runsThatBeginTogetherStayApart() throws {
        let place = try Workplace()
        func start(_ more: [String]) throws -> [Int32] {
            let processes = try (1...3).map { seed in
                try place.start(["train"] + place.small + ["--steps", "3", "--seed", "\(seed)"] + more)
            }
            for process in processes { process.waitUntilExit() }
            return processes.map(\.terminationStatus)
        }
        #expect(try start([]) == [0, 0, 0])
        let runs = place.url.appending(path: "runs")
        let seeds = try FileManager.default.contentsOfDirectory(atPath: runs.path).map { name in
            try RunFolder(opening: runs.appending(path: name)).configuration().seed
        }
        #expect(seeds.sorted() == [1, 2, 3])

        let states = try start(["--output", "one"])
        #expect(states.filter { $0 == 0 }.count == 1 && states.filter { $0 == 1 }.count == 2)
        let winner = try #require(states.firstIndex(of: 0))
        #expect(try RunFolder(opening: place.url.appending(path: "one")).configuration().seed == winner + 1)
    }

    /// A run that was killed before it had saved anything begins again, in its folder or by `--resume`.
    @Test func aRunThatSavedNothingBeginsAgain() throws {
        let place = try Workplace()
        let whole = try place.train("run", steps: 3)
        #expect(whole.status == 0)
        for again in [["train"] + place.small + ["--steps", "3", "--output", "run"], ["train", "--resume", "run"]] {
            try FileManager.default.removeItem(at: place.url.appending(path: "run/checkpoints"))
            let outcome = try place.run(again)
            #expect(outcome.status == 0 && outcome.output == whole.output, "\(outcome.errors)")
        }
    }

    /// A result that cannot be written is an error; a reader that has gone away ends the command quietly.
    @Test func resultsAreWrittenWhole() throws {
        let place = try Workplace()
        #expect(try place.train("run", steps: 3).status == 0)
        for arguments in [
            ["evaluate", "run", "--json"], ["generate", "run", "--prompt", "a"], ["runs", "list"],
            ["runs", "export", "run"], ["data", "list"],
        ] {
            #if os(Linux)
                let full = place.process(arguments)
                let errors = Pipe()
                full.standardOutput = try FileHandle(forWritingTo: URL(filePath: "/dev/full"))
                full.standardError = errors
                try full.run()
                let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
                full.waitUntilExit()
                #expect(full.terminationStatus == 1, "\(arguments)")
                #expect(text.contains("cannot write to standard output: No space left"), "\(arguments): \(text)")
            #endif
            let closed = place.process(arguments)
            let (output, silence) = (Pipe(), Pipe())
            try output.fileHandleForReading.close()
            (closed.standardOutput, closed.standardError) = (output, silence)
            try closed.run()
            let told = String(decoding: silence.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            closed.waitUntilExit()
            // Which checkpoint was taken is all that is told.
            let lines = told.split(separator: "\n")
            #expect(lines.count <= 1 && lines.allSatisfy { $0.hasPrefix("model: ") }, "\(arguments): \(told)")
            #expect(closed.terminationStatus != 0, "\(arguments)")
        }
    }

    /// A text's byte order mark is none of its characters; a prompt may come from a file or a pipe; what cannot be said of it is
    /// told with its code point.
    @Test func textsComeAsTheyAre() throws {
        let place = try Workplace()
        let text = try Data(contentsOf: place.text)
        try (Data([0xef, 0xbb, 0xbf]) + text).write(to: place.text)
        #expect(try place.train("run", steps: 2).status == 0)
        let marked = try place.run(["generate", "run", "--prompt", "\u{feff}a"])
        #expect(marked.status == 1 && marked.errors.contains("(U+FEFF)"), "\(marked.errors)")
        let combined = try place.run(["generate", "run", "--prompt", "e\u{301}"])
        #expect(combined.errors.contains("(U+0301, a combining mark"), "\(combined.errors)")

        try Data("the cat\n".utf8).write(to: place.url.appending(path: "prompt.txt"))
        let greedy = ["--temperature", "0", "--max-tokens", "20"]
        let given = try place.run(["generate", "run", "--prompt", "the cat\\n"] + greedy)
        let file = try place.run(["generate", "run", "--prompt-file", "prompt.txt"] + greedy)
        #expect(given.status == 0 && file.output == given.output, "\(file.errors)")
        let piped = try place.run(
            ["generate", "run", "--prompt-file", "-"] + greedy, input: place.url.appending(path: "prompt.txt"))
        #expect(piped.output == given.output, "\(piped.errors)")
        for wrong in [[], ["--prompt", "a", "--prompt-file", "prompt.txt"]] {
            #expect(try place.run(["generate", "run"] + wrong).status == 64)
        }
    }

    @Test func whatCannotBeMeantIsSaid() throws {
        let place = try Workplace()
        let typo = try place.run(
            ["train"] + place.small + ["--steps", "2", "--output", "a"], environment: ["FEEDBACK_BATCHSIZE": "3"])
        #expect(
            typo.status == 0
                && typo.errors.contains("FEEDBACK_BATCHSIZE is no setting; did you mean FEEDBACK_BATCH_SIZE?"))
        let slow = try place.train("b", steps: 2, ["--learning-rate", "5e-5"])
        #expect(slow.status == 0, "\(slow.errors)")
        let long = try place.train("c", steps: 2, ["--warmup-steps", "100"])
        #expect(long.errors.contains("fewer --warmup-steps"), "\(long.errors)")
        let open = try place.run(["serve", "a", "--api-key", ""])
        #expect(open.status == 64 && open.errors.contains("api-key is empty"))
    }
}
