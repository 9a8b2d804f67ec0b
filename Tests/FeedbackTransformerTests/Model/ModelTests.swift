import FeedbackTransformer
import Testing

@Suite struct ModelTests {
    /// The sizes that labml's own models have.
    @Test func labmlParameterCounts() {
        func count(_ keyValue: KeyValueSharing) -> Int {
            ParameterTable(
                ModelConfiguration(keyValue: keyValue, layers: 6, dModel: 512, heads: 8, dFF: 2048, vocabulary: 65)
            ).count
        }
        #expect(count(.shared) == 29_133_896)
        #expect(count(.perLayer) == 31_758_408)
    }

    @Test(arguments: Wiring.all) func parametersFillTheTableWithoutOverlap(wiring: Wiring) {
        let table = ParameterTable(wiring.configuration)
        var end = 0
        for parameter in table.parameters {
            #expect(parameter.offset == end)
            end += parameter.count
        }
        #expect(end == table.count)
        #expect(Set(table.parameters.map(\.name)).count == table.parameters.count)
        #expect((table["transformer.weights"] != nil) == (wiring.memory == .feedback))
    }

    /// What training leaves out is exactly the rows of position tables beyond the reach.
    @Test func trainableRangesLeaveOutOnlyFarPositions() {
        let table = ParameterTable(Wiring(positions: 16).configuration)
        for reach in [1, 5, 16] {
            var included = Array(repeating: 0, count: table.count)
            for part in table.trainable(reach: reach) { for index in part.range { included[index] += 1 } }
            for parameter in table.parameters {
                let isTable = parameter.name.contains("key_pos")
                let left = isTable ? parameter.count / 16 * (16 - reach) : 0
                #expect(included[parameter.range].allSatisfy { $0 <= 1 })
                #expect(included[parameter.range].prefix(left).allSatisfy { $0 == 0 })
                #expect(included[parameter.range].dropFirst(left).allSatisfy { $0 == 1 })
            }
        }
        #expect(
            table.trainable(reach: 16).filter(\.decays).reduce(0) { $0 + $1.range.count }
                == table.parameters.filter(\.decays).reduce(0) { $0 + $1.count })
    }

    @Test func freshParametersFollowPyTorchsDefaults() throws {
        let configuration = ModelConfiguration(layers: 2, dModel: 64, heads: 4, dFF: 256, vocabulary: 50)
        let model = try FeedbackModel(configuration, seed: 3)
        func values(_ name: String) -> [Float] { model.parameters[name] }
        let embedding = values("src_embed.weight")
        #expect(abs(embedding.reduce(0, +) / Float(embedding.count)) < 0.1)
        #expect(abs(embedding.reduce(0) { $0 + $1 * $1 } / Float(embedding.count) - 1) < 0.1)
        let inner = values("transformer.layers.0.feed_forward.layer2.weight")
        #expect(inner.max()! < 1 / 16 && inner.max()! > 0.06 && inner.min()! < -0.06)
        #expect(values("transformer.weights") == [1, 1, 1])
        #expect(values("transformer.layers.1.norm_ff.weight").allSatisfy { $0 == 1 })
        #expect(values("transformer.layers.1.attn.key_pos_embeddings").allSatisfy { $0 == 0 })
        #expect(
            values("transformer.layers.0.attn.query.linear.weight")
                != values("transformer.layers.1.attn.query.linear.weight"))
        #expect(try FeedbackModel(configuration, seed: 3).parameters.values == model.parameters.values)
        #expect(try FeedbackModel(configuration, seed: 4).parameters.values != model.parameters.values)
    }

    /// K^-½ S_o = −2^(−8h/H) · o, the nearest offset in the last row; or all zero.
    @Test func positionBiasBeginsAsSlopesOrZero() throws {
        let configuration = ModelConfiguration(layers: 1, dModel: 32, heads: 2, dFF: 4, vocabulary: 3, positions: 8)
        let slopes = try FeedbackModel(configuration, seed: 1).parameters["transformer.layers.0.attn.key_pos_bias"]
        for offset in 1...8 {
            #expect(abs(slopes[(8 - offset) * 2] + 4.0 / 16 * Float(offset)) < 1e-6)
            #expect(abs(slopes[(8 - offset) * 2 + 1] + 4.0 / 256 * Float(offset)) < 1e-6)
        }
        let zero = try FeedbackModel(configuration, seed: 1, positions: .zero)
        #expect(zero.parameters["transformer.layers.0.attn.key_pos_bias"].allSatisfy { $0 == 0 })
    }

    @Test func impossibleConfigurationsAreRefused() {
        let good = ModelConfiguration(layers: 2, dModel: 12, heads: 3, dFF: 8, vocabulary: 5, positions: 16)
        #expect(throws: Never.self) { try good.validate() }
        let changes: [(inout ModelConfiguration) -> Void] = [
            { $0.layers = 0 }, { $0.layers = -1 }, { $0.layers = 1 << 40 }, { $0.dModel = 0 }, { $0.dModel = .max },
            { $0.heads = 0 }, { $0.heads = 5 }, { $0.heads = 24 }, { $0.dFF = 0 }, { $0.dFF = .max },
            { $0.vocabulary = 0 }, { $0.positions = 0 }, { $0.memoryWindow = 0 }, { $0.memoryWindow = 17 },
        ]
        for (index, change) in changes.enumerated() {
            var configuration = good
            change(&configuration)
            #expect(throws: ConfigurationError.self, "change \(index)") { try configuration.validate() }
        }
        var wrong = good
        wrong.heads = 5
        #expect(throws: ConfigurationError("heads (5) must divide d-model (12); choose one of 1, 2, 3, 4, 6, 12")) {
            try wrong.validate()
        }
    }

    @Test func randomSourceIsTheSameEverywhere() {
        var random = RandomSource(seed: 42)
        #expect(
            (0..<4).map { _ in random.next() } == [
                1_546_998_764_402_558_742, 6_990_951_692_964_543_102, 12_544_586_762_248_559_009,
                17_057_574_109_182_124_193,
            ])
        let saved = random.state
        let next = random.next()
        var resumed = RandomSource(state: saved)!
        #expect(resumed.next() == next)
        #expect(RandomSource(state: [0, 0, 0, 0]) == nil)
        #expect(RandomSource(state: [1]) == nil)

        // The second bound draws one number of four again.
        random = RandomSource(seed: 42)
        #expect((0..<8).map { _ in random.below(10) } == [0, 3, 6, 9, 9, 7, 7, 8])
        random = RandomSource(seed: 42)
        #expect(
            (0..<4).map { _ in random.below(3 << 61) } == [
                580_124_536_650_959_528, 2_621_606_884_861_703_663, 4_704_220_035_843_209_628,
                6_396_590_290_943_296_572,
            ])
        random = RandomSource(seed: 42)
        var order = Array(0..<10)
        random.shuffle(&order)
        #expect(order == [0, 4, 7, 9, 3, 8, 5, 1, 2, 6])
    }
}
