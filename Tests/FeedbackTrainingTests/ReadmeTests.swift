import FeedbackTraining
import FeedbackTransformer
import Foundation
import Testing

/// The README's library example: it compiles, and it is the README's, line for line.
@Suite struct ReadmeTests {
    // example begins
    private func example() async throws {
        let corpus = try await TextCorpus.named("tiny_shakespeare")
        var configuration = RunConfiguration(preset: .demo)
        configuration.length = .steps(500)
        let trainer = try Trainer(configuration, corpus: corpus)
        try trainer.run { event in
            if case .validation(let step, let evaluation) = event { print(step, evaluation.loss) }
        }
        try trainer.modelFolder.save(to: URL(filePath: "romeo"))

        let model = try ModelFolder(contentsOf: URL(filePath: "romeo"))
        var generator = try TextGenerator(
            model, prompt: "ROMEO:", maxTokens: 300, sampler: Sampler(temperature: 0.8))
        while let text = try generator.next() { print(text, terminator: "") }
    }
    // example ends

    @Test func exampleIsTheReadmes() throws {
        let source = try String(contentsOfFile: #filePath, encoding: .utf8)
        let lines = source.components(separatedBy: "\n")
        let begin = try #require(lines.firstIndex { $0 == "    // example begins" })
        let end = try #require(lines.firstIndex { $0 == "    // example ends" })
        let body = lines[begin + 2..<end - 1].map { $0.isEmpty ? "" : String($0.dropFirst(8)) }
        let root = URL(filePath: #filePath).appending(path: "../../..").standardized
        let readme = try String(contentsOf: root.appending(path: "README.md"), encoding: .utf8)
        #expect(body.count > 10 && readme.contains(body.joined(separator: "\n")))
    }
}
