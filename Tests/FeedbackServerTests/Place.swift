import FeedbackEngine
import FeedbackRuns
import FeedbackTransformer
import Foundation

@testable import FeedbackServer

/// A server's options on a free port, with time enough beside many other tests, which may keep all threads for minutes.
func settings(_ change: (inout ModelServer.Options) -> Void) -> ModelServer.Options {
    var options = ModelServer.Options()
    (options.port, options.drainTime) = (0, .seconds(3600))
    (options.bodyTime, options.idleTime) = (.hours(1), .hours(1))
    change(&options)
    return options
}

/// Starts a server on a free port for as long as `body` takes.
func serve<Value: Sendable>(
    _ models: [String: ModelFolder] = ["tiny": tiny], history: RunStore? = nil,
    options: ModelServer.Options = settings { _ in }, _ body: (Client) async throws -> Value
) async throws -> Value {
    let server = try ModelServer(models: models, history: history, options: options)
    let (addresses, found) = AsyncStream<String>.makeStream()
    let running = Task { try await server.run { found.yield($0) } }
    let address = await addresses.first { _ in true }!
    let result: Result<Value, any Error>
    do {
        result = .success(try await body(Client(port: Int(address.split(separator: ":").last!)!)))
    } catch {
        result = .failure(error)
    }
    server.stop()
    try await running.value
    return try result.get()
}

/// The CPU with a pause before each step of decoding: a long continuation is still under way however late a test gets to look,
/// and takes no time from other tests.
struct SlowBackend: Backend {
    let base = CPUBackend()

    func training(_ model: FeedbackModel, _ shape: BatchShape) throws -> any TrainingSession {
        try base.training(model, shape)
    }
    func evaluation(_ model: FeedbackModel, _ shape: BatchShape) throws -> any EvaluationSession {
        base.evaluation(model, shape)
    }
    func decoding(_ model: FeedbackModel, memoryWindow: Int) throws -> any DecodingSession {
        SlowSession(base.decoding(model, memoryWindow: memoryWindow))
    }
    func footprint(_ model: ModelConfiguration, _ shape: BatchShape) -> Double { base.footprint(model, shape) }
    var memoryCapacity: Double { base.memoryCapacity }
}

private final class SlowSession: DecodingSession {
    private let base: any DecodingSession

    init(_ base: any DecodingSession) { self.base = base }

    func makeSequence() -> any DecodingSequence { base.makeSequence() }
    func step(_ sequences: [any DecodingSequence], tokens: [Int32]) -> [[Float]] {
        Thread.sleep(forTimeInterval: 0.01)
        return base.step(sequences, tokens: tokens)
    }
}

/// A small random model of the letters a to z and the space.
let tiny: ModelFolder = {
    let tokenizer = try! Tokenizer(.characters, text: "abcdefghijklmnopqrstuvwxyz ")
    let configuration = ModelConfiguration(
        layers: 2, dModel: 16, heads: 2, dFF: 24, vocabulary: tokenizer.vocabularySize, positions: 64)
    return ModelFolder(model: try! FeedbackModel(configuration, seed: 4), tokenizer: tokenizer)
}()

/// A model that knows one thing, which token follows each: the next one in a circle. So its greedy text is known.
func circle(_ tokens: [Int32], _ tokenizer: Tokenizer) -> ModelFolder {
    let size = tokenizer.vocabularySize
    var model = try! FeedbackModel(
        ModelConfiguration(layers: 1, dModel: size, heads: 1, dFF: 1, vocabulary: size, positions: 16), seed: 1)
    model.parameters.values = Array(repeating: 0, count: model.parameterCount)
    var embeddings = Array(repeating: Float(0), count: size * size)
    var generator = embeddings
    for token in 0..<size { embeddings[token * size + token] = 1 }
    for (token, next) in zip(tokens, tokens.dropFirst() + tokens.prefix(1)) {
        generator[Int(next) * size + Int(token)] = 1
    }
    model.parameters["src_embed.weight"] = embeddings
    model.parameters["generator.weight"] = generator
    model.parameters["transformer.norm.weight"] = Array(repeating: 1, count: size)
    return ModelFolder(model: model, tokenizer: tokenizer)
}

/// One that says the bytes of a text, each of them different, over and over.
func bytesInCircle(_ text: String) -> ModelFolder { circle(text.utf8.map(Int32.init), .bytes) }
/// One that says the letters of a text, each of them different, over and over.
func lettersInCircle(_ text: String) -> ModelFolder {
    let tokenizer = try! Tokenizer(.characters, text: text)
    return circle(try! tokenizer.encode(text), tokenizer)
}

/// What a model writes by itself, one continuation alone.
func alone(_ folder: ModelFolder, _ prompt: String, _ maxTokens: Int, temperature: Double = 0, seed: UInt64 = 0) throws
    -> String
{
    var generator = try TextGenerator(
        folder, on: CPUBackend(), prompt: prompt, maxTokens: maxTokens,
        sampler: Sampler(temperature: temperature, seed: seed))
    var text = ""
    while let piece = try generator.next() { text += piece }
    return text
}

extension JSON {
    /// The text of a completion's only choice.
    var completion: String? { self["choices"]?.elements?.first?["text"]?.text }
}
