import FeedbackEngine
import FeedbackTransformer
import Foundation
import Testing

/// The training passes and the decoder against the model in one sitting, with which they share nothing.
@Suite struct PlainModelTests {
    static let wirings = Wiring.all.filter { $0.carry == 0 }.map { wiring in
        var wiring = wiring
        wiring.steps = 9
        return wiring
    }

    @Test(arguments: wirings) func passesAndDecoderAgree(wiring: Wiring) throws {
        let model = wiring.model()
        let reference = ReferenceBackend().evaluation(model, wiring.shape)
        let engine = CPUBackend(threads: 2).evaluation(model, wiring.shape)
        let decoder = CPUBackend().decoding(model, memoryWindow: wiring.configuration.window)
        let inputs = wiring.batches(1)[0].inputs
        let (expected, fast) = (reference.logits(inputs), engine.logits(inputs))
        for row in 0..<wiring.batch {
            var plain = PlainModel(model)
            let sequence = decoder.makeSequence()
            for t in 0..<wiring.steps {
                let token = inputs[t * wiring.batch + row]
                let (logits, decoded) = (plain.step(token), decoder.step([sequence], tokens: [token])[0])
                for v in 0..<wiring.vocabulary {
                    let index = (t * wiring.batch + row) * wiring.vocabulary + v
                    #expect(Float(logits[v]).isNear(expected[index]))
                    #expect(abs(logits[v] - Double(fast[index])) < 1e-4 && abs(logits[v] - Double(decoded[v])) < 1e-4)
                }
            }
        }
    }

    @Test func lossAndContinuation() throws {
        let wiring = Wiring(steps: 12, batch: 1)
        let model = wiring.model()
        let tokens = wiring.batches(1)[0].inputs
        let batch = Batch(steps: 12, rows: 1, inputs: tokens, targets: tokens.dropFirst() + [-1])
        let sum = CPUBackend().evaluation(model, wiring.shape).loss(of: batch)
        var plain = PlainModel(model)
        #expect(abs(plain.loss(of: tokens) - sum.loss / Double(sum.targets)) < 1e-5)
        // What goes on after the last token goes on after what has been found, too.
        var (first, second) = (PlainModel(model), PlainModel(model))
        let whole = first.continuation(of: tokens, tokens: 8)
        #expect(second.continuation(of: tokens + whole.prefix(3), tokens: 5) == Array(whole.suffix(5)))
    }
}

extension Float {
    /// The same but for the last bits: two sums in double precision, rounded.
    fileprivate func isNear(_ other: Float) -> Bool { abs(self - other) <= 2 * max(ulp, other.ulp) }
}
