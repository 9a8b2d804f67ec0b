import FeedbackEngine
import FeedbackTransformer
import Foundation
import Testing

@Suite struct AttentionWeightsTests {
    /// Against the same pass in double, whose attention is plain loops.
    @Test(arguments: Wiring.all.filter { $0.carry == 0 }) func agreeWithTheReference(wiring: Wiring) throws {
        var wiring = wiring
        (wiring.steps, wiring.batch, wiring.dModel, wiring.heads) = (40, 1, 12, 3)
        wiring.positions = 64
        let model = wiring.model()
        let tokens = wiring.batches(1)[0].inputs
        let weights = try CPUBackend().attentionWeights(of: model, tokens)
        let expected = try ReferenceBackend().attentionWeights(of: model, tokens)
        #expect(weights.count == 2 && weights.allSatisfy { $0.count == 3 })
        for (layer, heads) in weights.enumerated() {
            for (head, steps) in heads.enumerated() {
                #expect(steps.map(\.count) == Array(0..<40))
                for (step, row) in steps.enumerated().dropFirst() {
                    #expect(abs(row.reduce(0, +) - 1) < 1e-5)
                    let errors = zip(row, expected[layer][head][step]).map { abs($0 - $1) }
                    #expect(errors.max()! < 1e-5, "layer \(layer), head \(head), step \(step)")
                    let seen = row.suffix(wiring.window ?? 64)
                    #expect(row.dropLast(seen.count).allSatisfy { $0 == 0 } && seen.allSatisfy { $0 > 0 })
                }
            }
        }
    }

    /// With keys and queries at zero only the distance counts: the weights are softmax(K^-½ S_o).
    @Test func areTheSoftmaxOfWhatIsKnown() throws {
        var model = Wiring(layers: 1, dModel: 4, heads: 1, vocabulary: 3).model()
        model.parameters.values = Array(repeating: 0, count: model.parameterCount)
        let bias = (0..<16).map { Float($0 * $0) / 100 }
        model.parameters["transformer.layers.0.attn.key_pos_bias"] = bias
        let weights = try CPUBackend().attentionWeights(of: model, [0, 1, 2, 0, 1], memoryWindow: 3)[0][0]
        for step in 1..<5 {
            // Row 16 − o of the table is of the distance o.
            let scores = (max(0, step - 3)..<step).map { exp(Double(bias[16 - (step - $0)]) / 2) }
            let expected = Array(repeating: 0, count: max(0, step - 3)) + scores.map { $0 / scores.reduce(0, +) }
            for (weight, expected) in zip(weights[step], expected) { #expect(abs(Double(weight) - expected) < 1e-6) }
        }
        #expect(try CPUBackend().attentionWeights(of: model, []) == [[[]]])
    }
}
