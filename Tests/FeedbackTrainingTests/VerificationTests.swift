import FeedbackEngine
import FeedbackTraining
import Foundation
import Testing

let fixtures = ["feedback-kv", "feedback-original", "feedback-kv-last", "transformer-kv", "transformer"]

func fixture(_ name: String) throws -> Fixture {
    try Fixture(contentsOf: #require(Bundle.module.url(forResource: "Fixtures/\(name)", withExtension: "safetensors")))
}

@Suite struct VerificationTests {
    @Test(arguments: fixtures, [1, 2, 3]) func floatAgreesWithPyTorch(name: String, threads: Int) throws {
        for difference in try fixture(name).verify(threads: threads) {
            #expect(difference.passes, "\(difference.name): \(difference.error)")
        }
    }

    @Test(arguments: fixtures) func referenceAgreesWithPyTorch(name: String) throws {
        for difference in try fixture(name).verify(threads: 1, makeExecutor: { ReferenceExecutor() }) {
            #expect(difference.passes, "\(difference.name): \(difference.error)")
        }
    }
}
