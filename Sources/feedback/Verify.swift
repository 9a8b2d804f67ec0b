import ArgumentParser
import FeedbackDevice
import FeedbackEngine
import FeedbackTraining
import FeedbackTransformer
import Foundation

struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compares this machine's results with PyTorch's.",
        discussion: """
            Runs a fixture's model forward and backward and through five Adam steps, and reports how far logits, loss, \
            every gradient and the five losses are from those that PyTorch wrote into the file.

            Example:
              feedback verify feedback-kv.safetensors --json
            """)

    @Argument(help: "A fixture, a safetensors file.", completion: .file(extensions: ["safetensors"]))
    var file: String

    @Option(help: "Numbers to compute in.")
    var precision = Precision.float32

    @Option(help: "What computes: \(DeviceName.choices).")
    var device = DeviceName.cpu

    @Flag(help: "Print one JSON object.")
    var json = false

    private struct Report: Encodable {
        struct Entry: Encodable {
            let name: String
            /// null where it is not finite.
            let error: Double?
            let tolerance: Double
            let passed: Bool
        }
        let passed: Bool
        let precision: String
        let tensors: [Entry]
    }

    func run() throws {
        let differences = try Fixture(contentsOf: URL(filePath: file))
            .verify(on: try device.backend(threads: 2, precision: precision), narrow: precision != .float32)
        let failed = differences.filter { !$0.passes }
        if json {
            let entries = differences.map {
                Report.Entry(
                    name: $0.name, error: $0.error.isFinite ? $0.error : nil, tolerance: $0.tolerance, passed: $0.passes
                )
            }
            try printResult(
                try jsonText(Report(passed: failed.isEmpty, precision: precision.rawValue, tensors: entries)))
        } else {
            for difference in differences {
                try printResult(
                    String(
                        format: "%@ %9.2e of %.0e  ", difference.passes ? "ok    " : "FAILED", difference.error,
                        difference.tolerance)
                        + difference.name)
            }
        }
        guard failed.isEmpty else {
            throw ConfigurationError(
                "\(failed.count) of \(differences.count) results are out of tolerance: "
                    + failed.map(\.name).joined(separator: ", "))
        }
    }
}

extension Precision: ExpressibleByArgument {}
