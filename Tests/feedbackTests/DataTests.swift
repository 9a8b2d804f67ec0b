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

        let process = place.process(
            ["train"] + place.small + ["--data", "-", "--steps", "5", "--output", "input"])
        let errors = Pipe()
        process.standardInput = try FileHandle(forReadingFrom: place.text)
        (process.standardOutput, process.standardError) = (FileHandle.nullDevice, errors)
        try process.run()
        let told = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(validation(Outcome(status: process.terminationStatus, output: "", errors: told)) == loss, "\(told)")
        #expect(try place.run(["train", "--resume", "input", "--steps", "6"]).status == 0)
    }

    private func validation(_ outcome: Outcome) -> Substring? {
        outcome.status == 0 ? outcome.errors.split(separator: "\n").first { $0.contains("validation loss") } : nil
    }
}
