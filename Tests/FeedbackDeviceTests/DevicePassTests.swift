import FeedbackDevice
import FeedbackEngine
import FeedbackTransformer
import Foundation
import Testing

@Suite(.serialized, .enabled(if: TestedDevice.isThere, TestedDevice.missing)) struct DevicePassTests {
    /// Sizes that fit no tile, no panel and no chunk of a product, a single step, more rows than one tile has.
    static let sizes: [DeviceWiring] = [
        DeviceWiring(steps: 1), DeviceWiring(batch: 1), DeviceWiring(carry: 7, batch: 19, layers: 1),
        DeviceWiring(
            norm: .layer, steps: 19, batch: 2, layers: 3, dModel: 40, heads: 2, dFF: 33, vocabulary: 65, positions: 32),
        DeviceWiring(
            keyValue: .perLayer, steps: 6, batch: 2, layers: 1, dModel: 280, heads: 4, dFF: 530, vocabulary: 17),
        DeviceWiring(memory: .perLayer, steps: 37, batch: 5, dModel: 24, heads: 3, positions: 64),
    ]

    /// Loss and gradient of three segments, the last with dropout, as the reference has them; and twice the same bits.
    @Test(arguments: DeviceWiring.all + sizes) func agreesWithReference(wiring: DeviceWiring) throws {
        try expectAgreement(wiring, narrow: false)
    }

    @Test(arguments: DeviceWiring.all.filter { $0.window == nil }) func agreesInBFloat16(wiring: DeviceWiring) throws {
        try expectAgreement(wiring, narrow: true)
    }

    /// Products of several chunks, panels and tiles in bfloat16, whose rows are read sixteen bytes at a time.
    @Test(arguments: [MemoryRouting.feedback, .perLayer]) func manyPanelsInBFloat16(memory: MemoryRouting) throws {
        try expectAgreement(
            DeviceWiring(
                memory: memory, steps: 6, batch: 3, layers: 1, dModel: 264, heads: 4, dFF: 536, vocabulary: 17),
            narrow: true)
    }

    private func expectAgreement(_ wiring: DeviceWiring, narrow: Bool) throws {
        var model = wiring.model()
        if narrow {
            // Units firmly on or off: rounding must not switch one, which in a model this small is a large change.
            for l in 0..<wiring.layers {
                model.parameters["transformer.layers.\(l).feed_forward.layer1.bias"] = (0..<wiring.dFF).map {
                    $0 % 3 == 0 ? -3 : 3
                }
            }
        }
        let (lossTolerance, tolerance, floor) = narrow ? (1e-2, 6e-2, 5e-3) : (1e-5, 1e-4, 1e-6)
        let exact = ReferenceBackend().training(model, wiring.shape)
        let backend = try TestedDevice.backend(narrow: narrow)
        let sessions = try (0..<2).map { _ in try backend.training(model, wiring.shape) }
        for (index, batch) in wiring.batches(3).enumerated() {
            let dropout = index == 2 ? Dropout(rate: 0.25, seed: 9).part(index) : nil
            let expected = exact.gradient(of: [batch], dropout: dropout)
            let sums = sessions.map { $0.gradient(of: [batch], dropout: dropout) }
            #expect(abs(sums[0].loss - expected.loss) <= lossTolerance * abs(expected.loss))
            #expect(sums[0].targets == expected.targets && (narrow || sums[0].correct == expected.correct))
            let (gradient, reference) = (sessions[0].read(.gradient), exact.read(.gradient))
            for parameter in reference.table.parameters {
                let error = distance(gradient[parameter.name], reference[parameter.name])
                let norm = distance(reference[parameter.name], nil)
                #expect(error <= tolerance * norm + floor, "segment \(index), \(parameter.name): \(error) of \(norm)")
            }
            #expect(sums[0] == sums[1] && gradient == sessions[1].read(.gradient), "not the same bits")
        }
    }

    /// Where all layers' caches are of one map, its gradient is a sum over all of them: one after the other, for groups that
    /// add to the same numbers at the same time lose some.
    @Test func manyCachesOfOneMap() throws {
        let wiring = DeviceWiring(memory: .perLayer, batch: 16, layers: 12)
        let (model, batch) = (wiring.model(), wiring.batches(1)[0])
        let exact = ReferenceBackend().training(model, wiring.shape)
        _ = exact.gradient(of: [batch], dropout: nil)
        let session = try TestedDevice.backend().training(model, wiring.shape)
        for _ in 0..<60 {
            _ = session.gradient(of: [batch], dropout: nil)
            let (own, expected) = (session.read(.gradient), exact.read(.gradient))
            for name in ["key", "value"].map({ "transformer.\($0).linear.weight" }) {
                #expect(distance(own[name], expected[name]) <= 1e-4 * distance(expected[name], nil), "\(name)")
            }
        }
    }

    /// The gradient over several batches is that of one batch of all their rows, and its norm that of its numbers.
    @Test func severalBatchesAreOne() throws {
        let wiring = DeviceWiring(steps: 4, batch: 2)
        let (model, batches) = (wiring.model(), wiring.batches(3))
        let session = try TestedDevice.backend().training(model, wiring.shape)
        let exact = ReferenceBackend().training(model, wiring.shape)
        let sums = [session, exact].map { $0.gradient(of: batches, dropout: nil) }
        #expect(abs(sums[0].loss - sums[1].loss) < 1e-4 && sums[0].targets == sums[1].targets)
        let gradients = [session, exact].map { $0.read(.gradient) }
        #expect(distance(gradients[0].values, gradients[1].values) < 1e-5 * distance(gradients[1].values, nil) + 1e-6)
        #expect(abs(session.gradientNorm() - exact.gradientNorm()) < 1e-5 * exact.gradientNorm())
    }

    /// Updates are Adam's, and a session that continues from what another has read out goes on with the same bits.
    @Test(arguments: MemoryRouting.allCases) func updatesAndContinues(memory: MemoryRouting) throws {
        let wiring = DeviceWiring(memory: memory, carry: 4)
        let (model, batches) = (wiring.model(), wiring.batches(4))
        let session = try TestedDevice.backend().training(model, wiring.shape)
        let exact = ReferenceBackend().training(model, wiring.shape)
        func step(_ session: any TrainingSession, _ number: Int) {
            _ = session.gradient(of: [batches[number]], dropout: Dropout(rate: 0.1, seed: 4).part(number))
            var adam = AdamStep(learningRate: 1e-2, number: number + 1)
            adam.gradientScale = 0.5
            session.update(adam, decay: 0.1)
        }
        for number in 0..<2 { for session in [session, exact] { step(session, number) } }
        let other = try TestedDevice.backend().training(model, wiring.shape)
        for what in Trained.allCases { other.write(session.read(what), to: what) }
        other.carriedMemory = session.carriedMemory
        #expect(session.carriedMemory.slots == 4 && exact.carriedMemory.slots == 4)
        for (own, expected) in zip(session.carriedMemory.vectors, exact.carriedMemory.vectors) {
            #expect(distance(own, expected) <= 1e-3 * distance(expected, nil))
        }
        for number in 2..<4 { for session in [session, other] { step(session, number) } }
        for what in Trained.allCases { #expect(session.read(what) == other.read(what), "\(what)") }
    }

    /// A profiled step computes the same bits. What its parts take by the device's clock is what they take by the host's.
    @Test func profilesByTheDevicesClock() throws {
        let wiring = DeviceWiring(steps: 19, layers: 3, dModel: 40, heads: 2, dFF: 33)
        let (model, batch) = (wiring.model(), wiring.batches(1)[0])
        let sessions = try (0..<2).map { _ in try TestedDevice.backend().training(model, wiring.shape) }
        func step(_ session: any TrainingSession) {
            _ = session.gradient(of: [batch], dropout: nil)
            session.update(AdamStep(learningRate: 1e-2, number: 1), decay: 0.1)
        }
        step(sessions[0])
        let start = ContinuousClock.now
        let profile = try #require(sessions[1].profile { step(sessions[1]) })
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        #expect(sessions[0].read(.parameters) == sessions[1].read(.parameters))
        let parts = ["forward", "backward", "weight gradients", "embedding and memory weights", "unfolding"]
        #expect(Set(profile.phases.keys) == Set(parts + ["optimizer", "packing", "host"]))
        #expect(profile.phases.values.allSatisfy { $0 > 0 })
        let onDevice = parts.reduce(0) { $0 + profile.phases[$1]! }
        #expect(onDevice > 0.2 * seconds && onDevice < 1.01 * seconds, "\(profile.phases) in \(seconds) s")
        #expect(profile.limit.seconds() > 0)
    }

    /// A batch whose numbers overflow leaves nothing behind for the next one.
    @Test(arguments: MemoryRouting.allCases) func overflowIsForgotten(memory: MemoryRouting) throws {
        let wiring = DeviceWiring(memory: memory)
        let (model, batch) = (wiring.model(), wiring.batches(1)[0])
        let session = try TestedDevice.backend().training(model, wiring.shape)
        var infinite = model.parameters
        infinite["transformer.value.linear.weight"] = Array(repeating: .infinity, count: 36)
        session.write(infinite)
        _ = session.gradient(of: [batch], dropout: nil)
        #expect(!session.gradientNorm().isFinite)
        session.write(model.parameters)
        _ = session.gradient(of: [batch], dropout: nil)
        let fresh = try TestedDevice.backend().training(model, wiring.shape)
        _ = fresh.gradient(of: [batch], dropout: nil)
        #expect(session.read(.gradient) == fresh.read(.gradient))
    }

    /// Evaluation: losses of segments that continue each other, logits that carry nothing, what heads look at.
    @Test(arguments: [DeviceWiring(window: 3, carry: 3), DeviceWiring(memory: .perLayer, window: 3, carry: 2)])
    func evaluates(wiring: DeviceWiring) throws {
        let (model, batches) = (wiring.model(), wiring.batches(3))
        let session = try TestedDevice.backend().evaluation(model, wiring.shape)
        let exact = ReferenceBackend().evaluation(model, wiring.shape)
        for batch in batches {
            #expect(abs(session.loss(of: batch).loss - exact.loss(of: batch).loss) < 1e-4)
            let (own, expected) = (session.logits(batch.inputs), exact.logits(batch.inputs))
            #expect(distance(own, expected) <= 1e-5 * distance(expected, nil))
        }
        let tokens = (0..<7).map { Int32($0 % 5) }
        let weights = try TestedDevice.backend().attentionWeights(of: model, tokens)
        let expected = try ReferenceBackend().attentionWeights(of: model, tokens)
        for (own, expected) in zip(weights.joined().joined(), expected.joined().joined()) {
            #expect(own.count == expected.count && distance(own, expected) < 1e-5)
        }
    }
}

/// ‖a − b‖, or ‖a‖.
func distance(_ a: [Float], _ b: [Float]?) -> Double {
    a.indices.reduce(0) { sum, i in
        let difference = Double(a[i]) - Double(b?[i] ?? 0)
        return difference.isNaN ? .infinity : sum + difference * difference
    }.squareRoot()
}

/// The device that the tests run on: where no other is asked for, the first of OpenCL, which in CI is PoCL's.
enum TestedDevice {
    static let missing: Comment = "no OpenCL device: apt's pocl-opencl-icd is what the kernels are tested on"
    static let name = DeviceName(ProcessInfo.processInfo.environment["FEEDBACK_TEST_DEVICE"] ?? "opencl")!
    static var isThere: Bool { (try? DeviceName.devices(name.driver)) != nil }
    static func backend(narrow: Bool = false) throws -> DeviceBackend {
        try DeviceBackend(name, narrow: narrow, narrowDecoding: narrow)
    }
}

/// One way to wire and size a model and its segment.
struct DeviceWiring: CustomTestStringConvertible {
    var memory = MemoryRouting.feedback
    var keyValue = KeyValueSharing.shared
    var norm = MemoryNorm.none
    var window: Int?
    var carry = 0
    var steps = 5
    var batch = 3
    var layers = 2
    var dModel = 6
    var heads = 2
    var dFF = 7
    var vocabulary = 5
    var positions = 16

    static let all: [DeviceWiring] = MemoryRouting.allCases.flatMap { memory in
        KeyValueSharing.allCases.flatMap { keyValue in
            MemoryNorm.allCases.flatMap { norm in
                [nil, 3].flatMap { window in
                    [0, 4].map {
                        DeviceWiring(memory: memory, keyValue: keyValue, norm: norm, window: window, carry: $0)
                    }
                }
            }
        }
    }

    var configuration: ModelConfiguration {
        ModelConfiguration(
            memory: memory, keyValue: keyValue, memoryNorm: norm, layers: layers, dModel: dModel, heads: heads,
            dFF: dFF, vocabulary: vocabulary, positions: positions, memoryWindow: window)
    }
    var shape: BatchShape { BatchShape(steps: steps, batchSize: batch, carry: carry) }
    var testDescription: String {
        "\(memory.rawValue) \(keyValue.rawValue) norm \(norm.rawValue) window \(window ?? 0) carry \(carry) T \(steps) B \(batch) D \(dModel)/\(heads)"
    }

    /// A model with nothing left at zero or one, so that every term of every equation counts.
    func model() -> FeedbackModel {
        var parameters = Parameters(ParameterTable(configuration), seed: 7)
        var random = RandomSource(seed: 7)
        parameters.values = parameters.values.map { $0 + Float(0.3 / Double(dModel).squareRoot() * random.normal()) }
        return FeedbackModel(parameters)
    }

    /// Segments of random tokens, one after the other.
    func batches(_ count: Int) -> [Batch] {
        var random = RandomSource(seed: 3)
        func tokens() -> [Int32] { (0..<steps * batch).map { _ in Int32(random.below(vocabulary)) } }
        return (0..<count).map { _ in
            Batch(
                steps: steps, rows: batch, inputs: tokens(),
                targets: tokens().enumerated().map { $0 % 7 == 5 ? -1 : $1 })
        }
    }
}
