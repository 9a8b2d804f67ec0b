import FeedbackEngine
import FeedbackTraining
import Foundation
import Testing

let fixtures = [
    "feedback-kv", "feedback-original", "feedback-kv-last", "feedback-kv-norm", "feedback-original-norm",
    "transformer-kv",
    "transformer",
]

func fixtureFile(_ name: String) throws -> URL {
    try #require(Bundle.module.url(forResource: "Fixtures/\(name)", withExtension: "safetensors"))
}

@Suite struct VerificationTests {
    @Test(arguments: fixtures, [1, 2, 3]) func floatAgreesWithPyTorch(name: String, threads: Int) throws {
        for difference in try Fixture(contentsOf: fixtureFile(name)).verify(threads: threads) {
            #expect(difference.passes, "\(difference.name): \(difference.error)")
        }
    }

    @Test(.enabled(if: Precision.bfloat16.isSupported), arguments: fixtures)
    func bfloat16AgreesWithPyTorch(name: String) throws {
        for difference in try Fixture(contentsOf: fixtureFile(name)).verify(precision: .bfloat16) {
            #expect(difference.passes, "\(difference.name): \(difference.error)")
        }
    }

    @Test(arguments: fixtures) func referenceAgreesWithPyTorch(name: String) throws {
        for difference in try Fixture(contentsOf: fixtureFile(name)).verify(
            threads: 1, makeExecutor: { ReferenceExecutor() })
        {
            #expect(difference.passes, "\(difference.name): \(difference.error)")
        }
    }

    /// One expected value off by 1 %, in the logits, the loss, a gradient, an Adam loss: that tensor alone is reported.
    @Test(arguments: [
        "logits", "loss", "grads.transformer.weights", "grads.transformer.layers.1.norm_ff.bias", "adam_losses",
    ])
    func oneValueOffByOnePerCentIsFound(tensor: String) throws {
        let file = try fixtureFile("feedback-kv")
        var data = try Data(contentsOf: file)
        let length = data.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
        let header = try #require(try JSONSerialization.jsonObject(with: data[8..<8 + length]) as? [String: Any])
        let entry = try #require(header[tensor] as? [String: Any])
        let offsets = try #require(entry["data_offsets"] as? [Int])
        // The largest value, so that 1 % of it counts.
        let places = stride(from: 8 + length + offsets[0], to: 8 + length + offsets[1], by: 4)
        func value(at place: Int) -> Float {
            Float(bitPattern: data[place..<place + 4].reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) })
        }
        let place = try #require(places.max { abs(value(at: $0)) < abs(value(at: $1)) })
        let changed = value(at: place) * 1.01
        data.replaceSubrange(place..<place + 4, with: withUnsafeBytes(of: changed.bitPattern.littleEndian) { Data($0) })
        let copy = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).safetensors")
        defer { try? FileManager.default.removeItem(at: copy) }
        try data.write(to: copy)
        let failed = try Fixture(contentsOf: copy).verify().filter { !$0.passes }.map(\.name)
        #expect(failed.count == 1)
        #expect(failed.first?.hasPrefix(tensor) == true, "\(failed)")
    }
}
