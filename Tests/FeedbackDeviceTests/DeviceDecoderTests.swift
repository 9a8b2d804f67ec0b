import FeedbackDevice
import FeedbackEngine
import FeedbackTransformer
import Testing

@Suite(.serialized, .enabled(if: TestedDevice.isThere, TestedDevice.missing)) struct DeviceDecoderTests {
    static let wirings: [DeviceWiring] = MemoryRouting.allCases.flatMap { memory in
        KeyValueSharing.allCases.flatMap { keyValue in
            MemoryNorm.allCases.map { DeviceWiring(memory: memory, keyValue: keyValue, norm: $0, positions: 64) }
        }
    }

    /// Sequences of different lengths, some new, some ended, together and one by one: the same bits, and the
    /// reference's logits.
    @Test(arguments: wirings, [false, true]) func decodesTogetherAndAlone(wiring: DeviceWiring, narrow: Bool) throws {
        let model = wiring.model()
        var random = RandomSource(seed: 9)
        let texts = (0..<5).map { _ in (0..<1 + random.below(12)).map { _ in Int32(random.below(5)) } }
        let alone = try texts.map { text in
            let decoder = try TestedDevice.backend(narrow: narrow).decoding(model, memoryWindow: 4)
            let exact = ReferenceBackend().decoding(model, memoryWindow: 4)
            let (own, expected) = (decoder.makeSequence(), exact.makeSequence())
            return text.map { token in
                let logits = decoder.step([own], tokens: [token])[0]
                let exact = exact.step([expected], tokens: [token])[0]
                let error = distance(logits, exact)
                #expect(error < (narrow ? 3e-2 * distance(exact, nil) + 1e-2 : 1e-4), "off by \(error)")
                return logits
            }
        }
        let decoder = try TestedDevice.backend(narrow: narrow).decoding(model, memoryWindow: 4)
        var running: [(text: Int, sequence: any DecodingSequence)] = []
        var waiting = Array(texts.indices)
        while !running.isEmpty || !waiting.isEmpty {
            if !waiting.isEmpty && (running.isEmpty || random.below(2) == 0) {
                running.append((waiting.removeFirst(), decoder.makeSequence()))
            }
            let tokens = running.map { texts[$0.text][$0.sequence.length] }
            for (logits, place) in zip(decoder.step(running.map(\.sequence), tokens: tokens), running) {
                #expect(logits == alone[place.text][place.sequence.length - 1])
            }
            running.removeAll { $0.sequence.length == texts[$0.text].count }
        }
    }
}

@Suite struct DeviceNameTests {
    @Test func readsNames() {
        #expect(DeviceName("cpu") == .cpu && DeviceName("cuda")?.number == 0)
        #expect(DeviceName("opencl:2")?.driver == .opencl && DeviceName("opencl:2")?.description == "opencl:2")
        for text in ["", "gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:1:2", "opencl:x"] {
            #expect(DeviceName(text) == nil)
        }
    }

    /// What is missing is said in one line, with what to do.
    @Test func saysWhatIsMissing() {
        let error = #expect(throws: ConfigurationError.self) { try DeviceBackend(DeviceName("opencl:999")!) }
        #expect(
            error?.description.contains("install") == true || error?.description.contains("feedback devices") == true)
    }
}
