import FeedbackDevice
import FeedbackEngine
import FeedbackTraining
import FeedbackTransformer
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
        try expectAgreement(name, on: CPUBackend(threads: threads))
    }

    @Test(.enabled(if: Precision.bfloat16.isSupported), arguments: fixtures)
    func bfloat16AgreesWithPyTorch(name: String) throws {
        try expectAgreement(name, on: CPUBackend(threads: 2, precision: .bfloat16), narrow: true)
    }

    @Test(.enabled(if: (try? DeviceName.devices(.opencl)) != nil, "no OpenCL device"), arguments: fixtures)
    func deviceAgreesWithPyTorch(name: String) throws {
        try expectAgreement(name, on: DeviceBackend(DeviceName("opencl")!))
    }

    @Test(arguments: fixtures) func referenceAgreesWithPyTorch(name: String) throws {
        try expectAgreement(name, on: ReferenceBackend())
    }

    private func expectAgreement(_ name: String, on backend: any Backend, narrow: Bool = false) throws {
        for difference in try Fixture(contentsOf: fixtureFile(name)).verify(on: backend, narrow: narrow) {
            #expect(difference.passes, "\(difference.name): \(difference.error)")
        }
    }

    /// Sizes are those of the file's tensors, not what its metadata claim: nothing is allocated for a claim.
    @Test(arguments: [
        ["d_model": "65536"], ["vocab": "65536"], ["layers": "1000"], ["d_ff": "1048576"], ["positions": "4096"],
        ["d_model": "65536", "heads": "1", "d_ff": "1048576", "vocab": "1000000", "layers": "1000"],
    ])
    func claimsOfSizeAreChecked(claims: [String: String]) throws {
        let message = try refusal { header in
            header["__metadata__"] = (header["__metadata__"] as? [String: String])?.merging(claims) { $1 }
        }
        #expect(!message.isEmpty)
    }

    /// Every tensor is looked at before anything is computed, and the file is named.
    @Test(
        arguments: [
            ("inputs", nil), ("targets", nil), ("targets", ["shape": [-1]]), ("inputs", ["dtype": "F32"]),
            ("logits", nil),
            ("loss", ["dtype": "I32"]), ("adam_losses", ["dtype": "I32"]), ("adam_losses", nil),
        ] as [(String, [String: any Sendable]?)])
    func tensorsAreChecked(name: String, change: [String: any Sendable]?) throws {
        let message = try refusal { header in
            var entry = try #require(header.removeValue(forKey: name) as? [String: Any])
            if change?["shape"] != nil {
                // As many in another shape: [steps, batch] as one row.
                entry["shape"] = [(entry["shape"] as? [Int])?.reduce(1, *)]
            }
            entry["dtype"] = change?["dtype"] ?? entry["dtype"]
            header[change == nil ? "renamed" : name] = entry
        }
        #expect(message.contains(name), "\(message)")
    }

    /// What is said of a fixture with another header, which names the file.
    private func refusal(_ change: (inout [String: Any]) throws -> Void) throws -> String {
        let data = try Data(contentsOf: try fixtureFile("feedback-kv"))
        let length = data.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
        var header = try #require(try JSONSerialization.jsonObject(with: data[8..<8 + length]) as? [String: Any])
        try change(&header)
        let new = try JSONSerialization.data(withJSONObject: header)
        let file = FileManager.default.temporaryDirectory.appending(path: "changed-\(UUID().uuidString).safetensors")
        defer { try? FileManager.default.removeItem(at: file) }
        try (withUnsafeBytes(of: UInt64(new.count).littleEndian) { Data($0) } + new + data[(8 + length)...]).write(
            to: file)
        let error = #expect(throws: FileError.self) { try Fixture(contentsOf: file) }
        #expect(error?.description.hasPrefix("\(file.path): ") == true, "\(error?.description ?? "")")
        return error?.description ?? ""
    }

    /// A file that cannot be one is refused by its first bytes, however long it is.
    @Test func aLongFileIsNotReadBeforeItIsRefused() throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "long-\(UUID().uuidString).safetensors")
        defer { try? FileManager.default.removeItem(at: file) }
        try Data(repeating: 0xff, count: 64).write(to: file)
        #expect(truncate(file.path, 1 << 40) == 0)
        #expect {
            try Fixture(contentsOf: file)
        } throws: { "\($0)".contains("its header claims") && "\($0)".contains(file.lastPathComponent) }
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
        let failed = try Fixture(contentsOf: copy).verify(on: CPUBackend()).filter { !$0.passes }.map(\.name)
        #expect(failed.count == 1)
        #expect(failed.first?.hasPrefix(tensor) == true, "\(failed)")
    }
}
