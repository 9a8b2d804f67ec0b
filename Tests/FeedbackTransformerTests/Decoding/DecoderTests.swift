import FeedbackEngine
import FeedbackTransformer
import Testing

@Suite struct DecoderTests {
    private static let routings: [Wiring] = MemoryRouting.allCases.flatMap { memory in
        KeyValueSharing.allCases.flatMap { keyValue in
            MemoryNorm.allCases.map {
                Wiring(
                    memory: memory, keyValue: keyValue, norm: $0, layers: 2, dModel: 24, heads: 2, dFF: 40,
                    vocabulary: 11, positions: 64)
            }
        }
    }

    private func largest(_ logits: [Float]) -> Int32 { Int32(logits.firstIndex(of: logits.max()!)!) }

    /// The logits after every one of some tokens, decoded alone.
    private func logits(_ decoder: Decoder, _ tokens: [Int32]) -> [[Float]] {
        let sequence = decoder.makeSequence()
        return tokens.map { decoder.step([sequence], tokens: [$0])[0] }
    }

    private func largestError(_ a: [Float], _ b: [Float]) -> Float { zip(a, b).map { abs($0 - $1) }.max()! }

    /// Decodes a prompt and then greedily on; the logits after every token, and all tokens.
    private func decode(
        _ decoder: Decoder, _ prompt: [Int32], more: Int
    ) -> (logits: [[Float]], tokens: [Int32]) {
        let sequence = decoder.makeSequence()
        var tokens = prompt
        var logits: [[Float]] = []
        while logits.count < prompt.count + more {
            logits.append(decoder.step([sequence], tokens: [tokens[logits.count]])[0])
            if logits.count >= prompt.count { tokens.append(largest(logits.last!)) }
        }
        return (logits, Array(tokens.prefix(prompt.count + more)))
    }

    /// The same tokens all anew, as one segment of the training pass.
    private func recompute(_ model: FeedbackModel, _ tokens: [Int32], window: Int) -> [[Float]] {
        let shape = BatchShape(steps: tokens.count, batchSize: 1, memoryWindow: window)
        let logits = CPUBackend().evaluation(model, shape).logits(tokens)
        let size = model.configuration.vocabulary
        return tokens.indices.map { t in Array(logits[t * size..<(t + 1) * size]) }
    }

    /// 1,008 random prompts in all, of lengths below and far beyond the window, and 8 greedy tokens after each.
    @Test(arguments: routings) func cachedGenerationEqualsFullRecomputation(wiring: Wiring) throws {
        let model = wiring.model()
        var random = RandomSource(seed: 5)
        for window in [3, 20, 64] {
            let decoder = Decoder(model, memoryWindow: window)
            for number in 0..<56 {
                let prompt = (0..<1 + random.below(number % 8 == 0 ? 60 : 12)).map { _ in Int32(random.below(11)) }
                let (logits, tokens) = decode(decoder, prompt, more: 8)
                let expected = recompute(model, tokens, window: window)
                for (t, pair) in zip(logits, expected).enumerated() {
                    let error = largestError(pair.0, pair.1)
                    #expect(
                        error <= 1e-4, "step \(t) of a prompt of \(prompt.count), window \(window): off by \(error)")
                    if t + 1 >= prompt.count && t + 1 < tokens.count {
                        #expect(largest(pair.1) == tokens[t + 1], "greedy text differs at \(t + 1), window \(window)")
                    }
                }
            }
        }
    }

    /// Sequences of different lengths, some new, some ended, together and one by one.
    @Test(arguments: routings) func batchedDecodingEqualsOneByOne(wiring: Wiring) throws {
        let model = wiring.model()
        var random = RandomSource(seed: 9)
        let texts = (0..<7).map { _ in (0..<1 + random.below(90)).map { _ in Int32(random.below(11)) } }
        let single = texts.map { logits(Decoder(model, memoryWindow: 20), $0) }
        let decoder = Decoder(model, memoryWindow: 20)
        var running: [(text: Int, sequence: any DecodingSequence)] = []
        var waiting = Array(texts.indices)
        while !running.isEmpty || !waiting.isEmpty {
            if !waiting.isEmpty && (running.isEmpty || random.below(4) == 0) {
                running.append((waiting.removeFirst(), decoder.makeSequence()))
            }
            let logits = decoder.step(
                running.map(\.sequence), tokens: running.map { texts[$0.text][$0.sequence.length] })
            for (pair, own) in zip(running, logits) {
                let error = largestError(own, single[pair.text][pair.sequence.length - 1])
                #expect(error <= 1e-4, "text \(pair.text) step \(pair.sequence.length): off by \(error)")
            }
            running.removeAll { $0.sequence.length == texts[$0.text].count }
        }
    }

    /// Far beyond the position table and through many clearings of forgotten memories.
    @Test func longSequencesKeepTheirWindow() throws {
        let wiring = Wiring(layers: 1, dModel: 8, vocabulary: 5, positions: 32)
        let model = wiring.model()
        let tokens = (0..<700).map { Int32(($0 * $0) % 5) }
        let expected = recompute(model, tokens, window: 32)
        let errors = zip(logits(Decoder(model), tokens), expected).map { largestError($0, $1) }
        #expect(errors.max()! <= 1e-4, "off first at step \(errors.firstIndex { $0 > 1e-4 } ?? -1)")
    }

    // MARK: Precision and threads

    private static let narrow = routings.flatMap { wiring in
        [DecodingPrecision.bfloat16, .int8].flatMap { precision in [false, true].map { (wiring, precision, $0) } }
    }

    /// How far a precision may be from float32 in a model of logits of size one: units of 2⁻⁸ in a dozen maps one after
    /// the other, for bfloat16 rounded and for int8 of the largest.
    @Test(arguments: narrow) func narrowIsClose(wiring: Wiring, precision: DecodingPrecision, portable: Bool) throws {
        let model = wiring.model()
        var random = RandomSource(seed: 21)
        let tokens = (0..<70).map { _ in Int32(random.below(11)) }
        let decoders = [
            Decoder(model, memoryWindow: 20),
            Decoder(model, memoryWindow: 20, precision: precision, threads: 1, portable: portable),
        ]
        let logits = decoders.map { Array(self.logits($0, tokens).joined()) }
        let error = zip(logits[0], logits[1]).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }.squareRoot()
        let norm = logits[0].reduce(0) { $0 + $1 * $1 }.squareRoot()
        #expect(error / norm <= 0.03 && error > 0, "off by \(error / norm) of the logits' norm")
    }

    private static let precisions = routings.flatMap { wiring in DecodingPrecision.allCases.map { (wiring, $0) } }

    /// The same bits alone and with others that come and go, on one thread and on several, also where a head's columns
    /// lie in two threads' parts.
    @Test(arguments: precisions) func sameBitsInAnyCompanyAndOnAnyThreads(
        wiring: Wiring, precision: DecodingPrecision
    ) throws {
        var wide = wiring
        (wide.dModel, wide.heads) = (144, 3)
        let model = wide.model()
        var random = RandomSource(seed: 31)
        let texts = (0..<9).map { _ in (0..<1 + random.below(30)).map { _ in Int32(random.below(11)) } }
        let single = texts.map { logits(Decoder(model, memoryWindow: 7, precision: precision), $0) }
        for threads in 1...3 {
            let decoder = Decoder(model, memoryWindow: 7, precision: precision, threads: threads)
            let sequences = texts.map { _ in decoder.makeSequence() }
            for start in 0..<40 {
                // Text i begins at step i.
                let running = texts.indices.filter { start >= $0 && start - $0 < texts[$0].count }
                let logits = decoder.step(
                    running.map { sequences[$0] }, tokens: running.map { texts[$0][start - $0] })
                for (own, text) in zip(logits, running) {
                    #expect(own == single[text][start - text], "text \(text), \(threads) threads")
                }
            }
        }
    }
}
