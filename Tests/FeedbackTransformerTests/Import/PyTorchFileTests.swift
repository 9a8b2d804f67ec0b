import Foundation
import Testing

@testable import FeedbackTransformer

/// Checkpoints that PyTorch has written: see Fixtures/pytorch.py.
@Suite struct PyTorchFileTests {
    private static let fixtures = Bundle.module.resourceURL!.appending(path: "Fixtures")

    /// The model of the fixtures, as its script makes it.
    private func expected(_ keyValue: KeyValueSharing) -> FeedbackModel {
        let configuration = ModelConfiguration(
            keyValue: keyValue, layers: 1, dModel: 4, heads: 2, dFF: 6, vocabulary: 5, positions: 7)
        var parameters = Parameters(ParameterTable(configuration))
        for (number, name) in parameters.table.parameters.map(\.name).sorted().enumerated() {
            parameters[name] = parameters[name].indices.map { Float((31 * number + $0) % 17 - 8) / 8 }
        }
        return FeedbackModel(parameters)
    }

    @Test(arguments: [
        "shared", "shared-older", "original", "original-older", "float16", "bfloat16", "float64", "views",
        "views-older", "parameters", "wrapped", "unchecked",
    ]) func isReadAsItIs(name: String) throws {
        let model = try FeedbackModel(labml: Self.fixtures.appending(path: "\(name).pt"))
        #expect(model.parameters == expected(name.hasPrefix("original") ? .perLayer : .shared).parameters)
    }

    @Test(arguments: KeyValueSharing.allCases, FeedbackModel.ExportFormat.allCases)
    func comesBackTheSame(keyValue: KeyValueSharing, format: FeedbackModel.ExportFormat) throws {
        let place = try TemporaryFolder()
        let model = Wiring(keyValue: keyValue, dModel: 8).model()
        let file = place.file("model")
        try model.export(as: format, to: file)
        #expect(try FeedbackModel(labml: file).parameters == model.parameters)
        #expect(throws: FileError.self) { try model.export(as: format, to: file) }
        #expect(throws: FileError.self) { try model.export(as: format, to: place.file("nowhere/model")) }
        #expect(try FileManager.default.contentsOfDirectory(atPath: place.url.path) == ["model"])
    }

    @Test func whatLabmlDoesNotHaveIsNotWritten() throws {
        let place = try TemporaryFolder()
        for wiring in [Wiring(memory: .perLayer), Wiring(memory: .feedbackLast), Wiring(norm: .layer)] {
            let error = #expect(throws: FileError.self) {
                try wiring.model().export(as: .labml, to: place.file("model"))
            }
            #expect(error?.description.contains("--format safetensors") == true)
            #expect(try FileManager.default.contentsOfDirectory(atPath: place.url.path).isEmpty)
        }
    }

    #if !(os(macOS) && arch(x86_64))
        @Test func halvesAreExact() {
            for bits in UInt16.min ... .max {
                let (number, expected) = (Float(half: UInt32(bits)), Float(Float16(bitPattern: bits)))
                #expect(number.bitPattern == expected.bitPattern || number.isNaN && expected.isNaN)
            }
        }
    #endif

    // MARK: Names and shapes

    private func refusal(_ change: (inout [Safetensors.Tensor]) -> Void) throws -> String {
        let place = try TemporaryFolder()
        var tensors = Wiring(dModel: 8).model().parameters.tensors()
        change(&tensors)
        try Safetensors.write(tensors, to: place.file("file.pt"))
        return try place.refusal()
    }

    @Test func allThatDoesNotFitIsNamedAtOnce() throws {
        let message = try refusal { tensors in
            tensors.removeAll { $0.name.hasSuffix(".norm_ff.bias") }
            tensors.append(.init(name: "transformer.mask", shape: [2], values: [1, 2]))
            tensors.append(.init(name: "transformer.layers.1.feed_forward.linear_v.bias", shape: [1], values: [1]))
            tensors.removeAll { $0.name == "generator.bias" }
            tensors.append(.init(name: "generator.bias", shape: [2], values: [1, 2]))
        }
        for words in [
            "it lacks transformer.layers.0.norm_ff.bias, transformer.layers.1.norm_ff.bias;",
            "transformer.layers.1.feed_forward.linear_v.bias, transformer.mask",
            "generator.bias is [2] and must be [5]",
        ] {
            #expect(message.contains(words), "\(message)")
        }
        #expect(try refusal { $0.removeAll() }.contains("it has no tensor src_embed.weight"))
        #expect(try refusal { $0.removeAll { $0.name.contains("layers") } }.contains("it has no layers"))
        #expect(try refusal { $0.removeAll { $0.name.hasSuffix("key_pos_embeddings") } }.contains("is missing"))
        #expect(
            try refusal { $0 += $0.map { .init(name: "b.\($0.name)", shape: $0.shape, values: $0.values) } }
                .contains("several models: b.src_embed.weight, src_embed.weight"))
        #expect(
            try refusal { tensors in
                tensors.append(.init(name: "transformer.layers.99999999999.x", shape: [1], values: [1]))
                tensors.append(.init(name: "transformer.layers.999999.x", shape: [1], values: [1]))
            }.contains("too many"))
        #expect(
            try refusal { tensors in
                tensors[0] = .init(
                    name: tensors[0].name, shape: tensors[0].shape, values: [.nan] + tensors[0].values.dropFirst())
            }.contains("src_embed.weight has values that are not finite"))
    }
}

extension TemporaryFolder {
    /// What is said of the only file, a checkpoint that cannot be used: one line, and nothing else has happened.
    func refusal() throws -> String {
        let checkpoint = file("file.pt")
        let error = #expect(throws: FileError.self) { try FeedbackModel(labml: checkpoint) }
        let message = error?.description ?? ""
        #expect(
            message.hasPrefix("\(checkpoint.path): ") && message.count < 1100 && !message.contains("\n"), "\(message)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: url.path) == ["file.pt"])
        return message
    }
}
