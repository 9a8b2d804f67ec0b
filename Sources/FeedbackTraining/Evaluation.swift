import FeedbackTransformer
import Foundation

/// How well a model predicts a text, or answers a task.
public struct Evaluation: Codable, Equatable, Sendable {
    /// Mean cross-entropy in nats a token.
    public var loss: Double
    /// The same in bits a character of the text, whatever its tokens are; of a task, an answer.
    public var bitsPerCharacter: Double
    /// e^loss, or the largest number there is.
    public var perplexity: Double
    /// The share of tokens that the model holds for the likeliest.
    public var accuracy: Double
    /// Tokens predicted.
    public var tokens: Int

    /// From a sum over targets that stand for so many characters.
    public init(_ sum: CrossEntropySum, characters: Int) {
        loss = sum.loss / Double(sum.targets)
        bitsPerCharacter = sum.loss / log(2) / Double(characters)
        perplexity = min(exp(loss), .greatestFiniteMagnitude)
        accuracy = Double(sum.correct) / Double(sum.targets)
        tokens = sum.targets
    }
}

/// Evaluates a model on the whole of some data: every target is predicted once, from the memory of what comes before it.
///
/// The data is read as contiguous streams, a segment at a time; the memories of one segment are carried over to the next.
/// Each stream begins without memory, so the figure is a little worse than one stream's would be. To see what carrying buys,
/// the memory can be reset: then every segment begins without.
public final class Evaluator {
    /// What predicts: all steps of a batch, or a decoder in its precision, a step at a time.
    private enum Predictor {
        case batches(any EvaluationSession)
        case steps(any DecodingSession)
    }
    private let predictor: Predictor
    private let loader: SequentialLoader
    /// The tokens that are to be predicted, and the characters that they stand for.
    public let targets, characters: Int
    private let resets: Bool
    /// The rows that the data is read in.
    public var streams: Int { loader.rows }

    /// - Parameters:
    ///   - model: what predicts.
    ///   - stream: what is to be predicted.
    ///   - backend: what computes.
    ///   - memoryWindow: the memories a step sees.
    ///   - reset: the steps after which the memory is forgotten; never where nil.
    ///   - most: the tokens to predict at most, from pieces that lie evenly in the data; all where nil.
    public init(
        _ model: FeedbackModel, _ stream: TokenStream, on backend: any Backend, memoryWindow: Int, reset: Int? = nil,
        most: Int? = nil
    ) throws {
        (loader, targets, characters) = try Self.read(stream, reset: reset, most: most)
        resets = reset != nil
        let shape = BatchShape(
            steps: loader.sequenceLength, batchSize: loader.rows, carry: memoryWindow, memoryWindow: memoryWindow)
        predictor = .batches(try backend.evaluation(model, shape))
    }

    /// Evaluates what a decoder makes of its model: the cost of a precision.
    public init(_ decoder: any DecodingSession, _ stream: TokenStream, reset: Int? = nil) throws {
        (loader, targets, characters) = try Self.read(stream, reset: reset, most: nil)
        resets = reset != nil
        predictor = .steps(decoder)
    }

    private static func read(
        _ stream: TokenStream, reset: Int?, most: Int?
    ) throws -> (SequentialLoader, targets: Int, characters: Int) {
        // How many steps at a time, without a reset, is a matter of rounding; how many streams, of how often one begins.
        let (segment, streams) = (reset ?? 64, 32)
        let nothing = CorpusError("the data to evaluate has nothing to predict; it needs at least 2 tokens")
        guard stream.count > 0 else { throw nothing }
        let loader = SequentialLoader(
            stream, sequenceLength: min(segment, stream.count),
            batchSize: max(1, min(streams, (stream.count + 1) / (4 * segment))), most: most)
        let (targets, characters) = try stream.targets(in: loader.ranges)
        guard targets > 0 else { throw nothing }
        return (loader, targets, characters)
    }

    /// Evaluates other parameters from now on; not where a decoder predicts, which keeps its own.
    func write(_ parameters: Parameters) {
        if case .batches(let session) = predictor { session.write(parameters) }
    }

    /// Throws `NotFiniteError` where the loss is not finite.
    ///
    /// - Parameter progress: called with the tokens predicted so far.
    public func run(progress: (Int) -> Void = { _ in }) throws -> Evaluation {
        var loader = loader
        var sum = CrossEntropySum()
        let evaluate = start()
        while let batch = try loader.next() {
            sum += evaluate(batch)
            progress(sum.targets)
        }
        guard sum.loss.isFinite else { throw NotFiniteError("loss") }
        return Evaluation(sum, characters: characters)
    }

    /// What evaluates the next batch, beginning without memory.
    private func start() -> (Batch) -> CrossEntropySum {
        switch predictor {
        case .batches(let session):
            session.forget()
            return { [resets] batch in
                if resets { session.forget() }
                return session.loss(of: batch)
            }
        case .steps(let decoder):
            func start() -> [any DecodingSequence] { (0..<loader.rows).map { _ in decoder.makeSequence() } }
            var streams = start()
            return { [resets] batch in
                if resets { streams = start() }
                var sum = CrossEntropySum()
                for first in stride(from: 0, to: batch.inputs.count, by: batch.rows) {
                    let step = first..<first + batch.rows
                    let logits = decoder.step(streams, tokens: Array(batch.inputs[step]))
                    for (row, index) in zip(logits, step) where batch.targets[index] >= 0 {
                        sum.add(logits: row, target: batch.targets[index])
                    }
                }
                return sum
            }
        }
    }
}

extension CrossEntropySum {
    /// Adds one row of logits (Operations/EmbeddingAndLoss.swift).
    fileprivate mutating func add(logits: [Float], target: Int32) {
        let largest = logits.max() ?? 0
        let total = logits.reduce(0.0) { $0 + exp(Double($1 - largest)) }
        loss += log(total) - Double(logits[Int(target)] - largest)
        targets += 1
        correct += logits.firstIndex(of: largest) == Int(target) ? 1 : 0
    }
}
