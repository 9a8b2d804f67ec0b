import FeedbackEngine
import FeedbackTraining
import FeedbackTransformer
import Synchronization
import Testing

/// A backend that stands on another, written against what is public alone: it counts what is asked of it.
private final class CountingBackend: Backend {
    let base = CPUBackend(threads: 2)
    let sessions = Atomic(0)
    let batches = Atomic(0)
    let updates = Atomic(0)
    let steps = Atomic(0)

    func training(_ model: FeedbackModel, _ shape: BatchShape) throws -> any TrainingSession {
        sessions.add(1, ordering: .relaxed)
        return CountingSession(try base.training(model, shape), self)
    }
    func evaluation(_ model: FeedbackModel, _ shape: BatchShape) throws -> any EvaluationSession {
        base.evaluation(model, shape)
    }
    func decoding(_ model: FeedbackModel, memoryWindow: Int) throws -> any DecodingSession {
        CountingDecoder(base.decoding(model, memoryWindow: memoryWindow), self)
    }
    func footprint(_ model: ModelConfiguration, _ shape: BatchShape) -> Double { base.footprint(model, shape) }
    var memoryCapacity: Double { base.memoryCapacity }
}

private final class CountingSession: TrainingSession {
    let base: any TrainingSession
    let counts: CountingBackend

    init(_ base: any TrainingSession, _ counts: CountingBackend) { (self.base, self.counts) = (base, counts) }

    var shape: BatchShape { base.shape }
    var carriedMemory: CarriedMemory {
        get { base.carriedMemory }
        set { base.carriedMemory = newValue }
    }
    func loss(of batch: Batch) -> CrossEntropySum { base.loss(of: batch) }
    func logits(_ inputs: [Int32]) -> [Float] { base.logits(inputs) }
    func attentionWeights(_ inputs: [Int32]) -> [[[[Float]]]] { base.attentionWeights(inputs) }
    func forget() { base.forget() }
    func gradient(of batches: [Batch], dropout: Dropout?) -> CrossEntropySum {
        counts.batches.add(batches.count, ordering: .relaxed)
        return base.gradient(of: batches, dropout: dropout)
    }
    func gradientNorm() -> Double { base.gradientNorm() }
    func update(_ step: AdamStep, decay: Double) {
        counts.updates.add(1, ordering: .relaxed)
        base.update(step, decay: decay)
    }
    func read(_ what: Trained) -> Parameters { base.read(what) }
    func write(_ values: Parameters, to what: Trained) { base.write(values, to: what) }
}

private final class CountingDecoder: DecodingSession {
    let base: any DecodingSession
    let counts: CountingBackend

    init(_ base: any DecodingSession, _ counts: CountingBackend) { (self.base, self.counts) = (base, counts) }

    func makeSequence() -> any DecodingSequence { base.makeSequence() }
    func step(_ sequences: [any DecodingSequence], tokens: [Int32]) -> [[Float]] {
        counts.steps.add(sequences.count, ordering: .relaxed)
        return base.step(sequences, tokens: tokens)
    }
}

@Suite struct BackendTests {
    /// A run on a backend from outside the engine is the run on the one that it stands on, to the bit, over a curriculum's
    /// stages, which are sessions of their own.
    @Test func aBackendFromOutsideTrains() throws {
        var configuration = smallConfiguration()
        (configuration.length, configuration.accumulate, configuration.threads) = (.steps(8), 2, 2)
        configuration.curriculum = try Curriculum("0:5,4:20")
        let corpus = try TextCorpus(name: "small", text: smallText)
        let counting = CountingBackend()
        let (own, others) = (
            try Trainer(configuration, corpus: corpus), try Trainer(configuration, corpus: corpus, backend: counting)
        )
        try own.run()
        try others.run()
        #expect(own.model.parameters == others.model.parameters)
        #expect(counting.sessions.load(ordering: .relaxed) == 2)
        #expect(counting.batches.load(ordering: .relaxed) == 16 && counting.updates.load(ordering: .relaxed) == 8)
        #expect(counting.steps.load(ordering: .relaxed) > 0)  // the sample at the end
    }

    @Test(arguments: fixtures) func aBackendFromOutsideIsVerified(name: String) throws {
        let differences = try Fixture(contentsOf: fixtureFile(name)).verify(on: CountingBackend())
        #expect(differences.allSatisfy(\.passes) && differences.count > 20)
    }
}
