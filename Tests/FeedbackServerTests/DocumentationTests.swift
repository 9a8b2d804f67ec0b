import FeedbackDevice
import FeedbackEngine
import FeedbackRuns
import FeedbackServer
import FeedbackTraining
import FeedbackTransformer
import Foundation
import Synchronization
import Testing

/// The Swift samples of the README and of the DocC catalogs: they compile, and they are the pages', line for line.
@Suite struct DocumentationTests {
    private static let root = URL(filePath: #filePath).appending(path: "../../..").standardized

    /// The README and every page of every catalog.
    static let pages: [String] = {
        let sources = root.appending(path: "Sources")
        let paths = FileManager.default.enumerator(atPath: sources.path)?.compactMap { $0 as? String } ?? []
        let pages = paths.filter { $0.contains(".docc/") && $0.hasSuffix(".md") }.sorted()
        return ["README.md"] + pages.map { "Sources/" + $0 }
    }()

    /// The lines without their indentation, but for imports and empty ones.
    private func lines(_ text: some StringProtocol) -> String {
        text.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
            .filter { !$0.isEmpty && !$0.hasPrefix("import ") }.joined(separator: "\n")
    }

    @Test(arguments: pages) func samplesCompile(page: String) throws {
        let tested = lines(try String(contentsOfFile: #filePath, encoding: .utf8))
        let text = try String(contentsOf: Self.root.appending(path: page), encoding: .utf8)
        for sample in text.components(separatedBy: "```swift\n").dropFirst() {
            let code = lines(sample.components(separatedBy: "\n```")[0])
            #expect(tested.contains(code), "not in this file:\n\(code)")
        }
    }

    @Test func everyPageIsFound() { #expect(Self.pages.count >= 9) }

    private func readme() async throws {
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
            model, on: CPUBackend(), prompt: "ROMEO:", maxTokens: 300, sampler: Sampler(temperature: 0.8))
        while let text = try generator.next() { print(text, terminator: "") }
    }

    private func engine(_ model: FeedbackModel, _ batch: Batch) throws {
        let session = try CPUBackend(threads: 2).training(model, BatchShape(steps: 64, batchSize: 12))
        let sum = session.gradient(of: [batch], dropout: nil)
        print(sum.loss / Double(sum.targets), session.read(.gradient)["generator.bias"])
    }

    private func device(_ model: FeedbackModel) throws {
        let backend = try DeviceBackend(DeviceName("cuda")!)
        let session = try backend.training(model, BatchShape(steps: 128, batchSize: 64))
        _ = session
    }

    private func transformer() throws {
        let folder = try ModelFolder(contentsOf: URL(filePath: "model"))
        var generator = try TextGenerator(
            folder, on: CPUBackend(), prompt: "ROMEO:", maxTokens: 200, sampler: Sampler(temperature: 0.8))
        while let piece = try generator.next() { print(piece, terminator: "") }
    }

    private func embedding() async throws {
        let folder = try ModelFolder(contentsOf: URL(filePath: "runs/demo/checkpoints/best"))
        var generator = try TextGenerator(
            folder, on: CPUBackend(), prompt: "ROMEO:", maxTokens: 300, sampler: Sampler(temperature: 0.8, seed: 1),
            stops: ["\n\n"])
        while let text = try generator.next() { print(text, terminator: "") }

        func stream(_ folder: ModelFolder, _ prompt: String) -> AsyncThrowingStream<String, any Error> {
            AsyncThrowingStream { continuation in
                let task = Task.detached {
                    do {
                        var generator = try TextGenerator(
                            folder, on: CPUBackend(), prompt: prompt, maxTokens: 300, sampler: Sampler())
                        while !Task.isCancelled, let text = try generator.next() { continuation.yield(text) }
                        continuation.finish()
                    } catch {
                        continuation.finish(throwing: error)
                    }
                }
                continuation.onTermination = { _ in task.cancel() }
            }
        }
        for try await text in stream(folder, "JULIET:") { print(text, terminator: "") }

        let decoder = CPUBackend(threads: 2, decodingPrecision: .bfloat16)
            .decoding(folder.model, memoryWindow: folder.memoryWindow)
        let sequences = [decoder.makeSequence(), decoder.makeSequence()]
        let logits = decoder.step(sequences, tokens: try folder.tokenizer.encode("RJ"))
        var sampler = try Sampler(temperature: 0.8)
        print(folder.tokenizer.decode(try logits.map { try sampler.next($0) }))
    }

    private func conversion() throws {
        let model = try FeedbackModel(labml: URL(filePath: "model.pth"))
        let tokenizer = try Tokenizer(labmlText: try String(contentsOfFile: "novel.txt", encoding: .utf8))
        try ModelFolder(model: model, tokenizer: tokenizer).save(to: URL(filePath: "model"))
        try model.export(as: .labml, to: URL(filePath: "back.pth"))
    }

    private func device() throws {
        let fixture = try Fixture(contentsOf: URL(filePath: "feedback-kv.safetensors"))
        let differences = try fixture.verify(on: CountingBackend())
        print(differences.filter { !$0.passes }.map(\.name))
    }

    private func training() async throws {
        let corpus = try await TextCorpus.named("tiny_shakespeare")
        let trainer = try Trainer(RunConfiguration(preset: .demo), corpus: corpus)
        try trainer.run { event in
            if case .validation(let step, let evaluation) = event { print(step, evaluation.loss) }
        }
        try trainer.modelFolder.save(to: URL(filePath: "model"))
    }

    private func trainingInDetail(_ stop: borrowing Atomic<Bool>) async throws {
        var configuration = RunConfiguration()
        configuration.data = "novel.txt"
        configuration.layers = 2
        configuration.length = .seconds(300)
        let corpus = try await TextCorpus.named(configuration.data)
        let trainer = try Trainer(configuration, corpus: corpus)
        try trainer.run { event in
            switch event {
            case .step(let step): print(step.number, step.loss)
            case .validation(let step, let evaluation): print(step, evaluation.loss, evaluation.accuracy)
            case .sample(_, let text): print(text)
            case .checkpoint, .warning: break
            }
        }
        try trainer.modelFolder.save(to: URL(filePath: "model"))

        let folder = try RunFolder(creating: URL(filePath: "runs/novel"), configuration: trainer.configuration)
        let ending = try trainer.run(in: folder, shouldStop: { stop.load(ordering: .relaxed) })
        if ending == .stopped {
            let resumed = try Trainer(resuming: folder, corpus: corpus)
            try resumed.run(in: folder)
        }

        while trainer.step < trainer.totalSteps {
            let step = try trainer.trainStep()
            if step.number % 100 == 0 { print(step.number, step.loss, try trainer.validate().loss) }
        }
    }

    private func task() throws {
        struct Parity: SequenceTask {
            let name = "parity"
            let summary = "whether the ones so far are even or odd"
            let symbols = ["0", "1", "even", "odd"]
            let difficulties: ClosedRange<Int>? = 1...1000

            func sequence(using random: inout RandomSource) -> TaskSequence { lesson(50, using: &random) }

            func lesson(_ difficulty: Int, using random: inout RandomSource) -> TaskSequence {
                let bits = (0..<difficulty).map { _ in Int32(random.below(2)) }
                var ones: Int32 = 0
                let answers = bits.map { bit in
                    ones += bit
                    return 2 + ones % 2
                }
                return TaskSequence(tokens: bits, answers: answers)
            }
        }

        var configuration = RunConfiguration()
        configuration.lessons = Lessons(1...10, then: [(percent: 95, difficulty: 1...50)])
        configuration.length = .steps(5000)
        let trainer = try Trainer(configuration, corpus: TaskCorpus(Parity()))
        try trainer.run { event in
            if case .validation(let step, let evaluation) = event { print(step, evaluation.accuracy) }
        }
    }

    private func history(_ trainer: Trainer, _ folder: RunFolder) throws {
        let store = try RunStore(at: RunStore.defaultURL())
        let recorder = try RunRecorder(store, trainer, folder: folder.url)
        let ending = try trainer.run(in: folder) { event in recorder.record(event) }
        recorder.end(ending == .stopped ? .interrupted : .finished)
        for run in try store.runs() { print(run.name, run.state(), run.validation ?? .nan) }
    }

    private func serving() async throws {
        let folder = try ModelFolder(contentsOf: URL(filePath: "model"))
        let server = try ModelServer(models: ["demo": folder], history: try RunStore(at: RunStore.defaultURL()))
        try await server.run { address in print("listening on \(address)") }
    }
}

/// What the samples name, out of the way of other tests.
private enum Samples {
    final class CountingBackend: Backend {
        let base = CPUBackend(threads: 2)
        let batches = Atomic(0)

        func training(_ model: FeedbackModel, _ shape: BatchShape) throws -> any TrainingSession {
            CountingSession(try base.training(model, shape), self)
        }
        func evaluation(_ model: FeedbackModel, _ shape: BatchShape) throws -> any EvaluationSession {
            base.evaluation(model, shape)
        }
        func decoding(_ model: FeedbackModel, memoryWindow: Int) throws -> any DecodingSession {
            base.decoding(model, memoryWindow: memoryWindow)
        }
        func footprint(_ model: ModelConfiguration, _ shape: BatchShape) -> Double { base.footprint(model, shape) }
        var memoryCapacity: Double { base.memoryCapacity }
    }
}

private typealias CountingBackend = Samples.CountingBackend

// swift-format-ignore: AlwaysUseLowerCamelCase
private func CountingSession(_ base: any TrainingSession, _: CountingBackend) -> any TrainingSession { base }
