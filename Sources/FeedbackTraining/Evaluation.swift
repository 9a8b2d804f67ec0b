import FeedbackEngine
import FeedbackTransformer
import Foundation

/// How well a model predicts a text.
public struct Evaluation: Codable, Equatable, Sendable {
    /// Mean cross-entropy in nats a character.
    public var loss: Double
    public var bitsPerCharacter: Double
    /// e^loss.
    public var perplexity: Double
    /// The share of characters that the model holds for the likeliest.
    public var accuracy: Double
    /// Characters predicted.
    public var tokens: Int

    public init(_ sum: CrossEntropySum) {
        loss = sum.loss / Double(sum.targets)
        bitsPerCharacter = loss / log(2)
        perplexity = exp(loss)
        accuracy = Double(sum.correct) / Double(sum.targets)
        tokens = sum.targets
    }
}

/// Evaluates a model on a whole text: every character but the first is predicted once, from the memory of those before.
///
/// The text is read as contiguous streams, a segment at a time; the memories of one segment are carried over to the next.
/// Each stream begins without memory, so the figure is a little worse than one stream's would be.
public final class Evaluator {
    private let pass: TrainingPass
    private let loader: SequentialLoader

    /// - Parameters:
    ///   - segment: steps at a time; has no effect on the result but for rounding.
    ///   - memoryWindow: the memories a step sees.
    public init(
        _ model: FeedbackModel, tokens: [Int32], memoryWindow: Int, segment: Int = 64, streams: Int = 32, threads: Int
    ) throws(CorpusError) {
        guard tokens.count > 1 else {
            throw CorpusError("the text to evaluate has \(tokens.count) characters; it needs at least 2")
        }
        loader = SequentialLoader(
            tokens, sequenceLength: min(segment, tokens.count - 1),
            batchSize: max(1, min(streams, tokens.count / (4 * segment))))
        pass = TrainingPass(
            model, steps: loader.sequenceLength, batchSize: loader.rows, carry: memoryWindow,
            memoryWindow: memoryWindow, threads: threads, forwardOnly: true)
    }

    /// The model as it is now. Throws where the loss is not finite.
    ///
    /// - Parameter progress: called with the characters predicted so far.
    public func run(progress: (Int) -> Void = { _ in }) throws(ConfigurationError) -> Evaluation {
        pass.parametersChanged()
        pass.forget()
        var loader = loader
        var sum = CrossEntropySum()
        while let batch = loader.next() {
            sum += pass.evaluate(inputs: batch.inputs, targets: batch.targets)
            progress(sum.targets)
        }
        guard sum.loss.isFinite else {
            throw ConfigurationError(
                "the loss is not finite; the model's training has diverged or its files are damaged")
        }
        return Evaluation(sum)
    }
}
