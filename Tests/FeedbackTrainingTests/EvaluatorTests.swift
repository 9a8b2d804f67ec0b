import FeedbackEngine
import FeedbackTransformer
import Foundation
import Testing

@testable import FeedbackTraining

@Suite struct EvaluatorTests {
    private let model: FeedbackModel
    private let stream: TokenStream

    init() throws {
        let tokenizer = try Tokenizer(.characters, text: smallText)
        model = try FeedbackModel(
            ModelConfiguration(layers: 2, dModel: 32, heads: 2, dFF: 64, vocabulary: tokenizer.vocabularySize), seed: 3)
        stream = try TextCorpus(name: "small", text: smallText).stream(.training, tokenizer)
    }

    /// A decoder sees the same text in the same streams as the training pass, so in float32 it finds the same loss.
    @Test(arguments: [nil, 1, 7]) func decoderAndTrainingPassAgree(reset: Int?) throws {
        let expected = try Evaluator(model, stream, on: CPUBackend(), memoryWindow: 20, reset: reset).run()
        for precision in DecodingPrecision.allCases {
            let decoder = CPUBackend(threads: 2, decodingPrecision: precision).decoding(model, memoryWindow: 20)
            let evaluation = try Evaluator(decoder, stream, reset: reset).run()
            #expect(evaluation.tokens == expected.tokens)
            #expect(abs(evaluation.loss - expected.loss) <= (precision == .float32 ? 1e-5 : 1e-2))
        }
    }

    /// Without memory a step knows its own token alone: the loss is that of the text's pairs in any order.
    @Test func resetForgets() throws {
        let backwards = TokenStream(
            inputs: try stream.inputs.reversed(), targets: try stream.targets.reversed())
        func loss(_ stream: TokenStream, reset: Int?) throws -> Double {
            try Evaluator(model, stream, on: CPUBackend(), memoryWindow: 20, reset: reset).run().loss
        }
        #expect(abs(try loss(stream, reset: 1) - loss(backwards, reset: 1)) < 1e-5)
        #expect(abs(try loss(stream, reset: nil) - loss(backwards, reset: nil)) > 1e-3)
        #expect(try loss(stream, reset: nil) != loss(stream, reset: 7))
    }
}
