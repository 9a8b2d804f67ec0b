import Foundation

/// A run's metrics as a file for other programs.
public enum RunExport: String, CaseIterable, Sendable {
    /// A line a step, with a header; what a step does not have is empty.
    case csv
    /// An object a line: the run, then its steps, validations, samples and checkpoints, each with its `kind`.
    case jsonl

    public func text(_ run: Run, _ metrics: RunMetrics) throws -> String {
        switch self {
        case .csv: Self.commaSeparated(metrics)
        case .jsonl: try Self.jsonLines(run, metrics)
        }
    }

    private static func commaSeparated(_ metrics: RunMetrics) -> String {
        let validations = Dictionary(uniqueKeysWithValues: metrics.validations.map { ($0.step, $0) })
        var lines = [
            "step,time,loss,accuracy,learning_rate,gradient_norm,seconds,tokens,"
                + "validation_loss,validation_bits_per_character,validation_accuracy"
        ]
        for step in metrics.steps {
            let validation = validations[step.step]
            let numbers = [
                step.time, step.loss, step.accuracy, step.learningRate, step.gradientNorm, step.seconds,
                Double(step.tokens), validation?.loss, validation?.bitsPerCharacter, validation?.accuracy,
            ]
            let fields = ["\(step.step)"] + numbers.map { number in number.map { "\($0)" } ?? "" }
            lines.append(fields.joined(separator: ","))
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private struct Line<Content: Encodable>: Encodable {
        let kind: String
        let content: Content

        private enum Key: CodingKey { case kind }
        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: Key.self)
            try container.encode(kind, forKey: .kind)
            try content.encode(to: encoder)
        }
    }

    private static func jsonLines(_ run: Run, _ metrics: RunMetrics) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        func lines(_ kind: String, _ rows: [some Encodable]) throws -> [String] {
            try rows.map { String(decoding: try encoder.encode(Line(kind: kind, content: $0)), as: UTF8.self) }
        }
        let all =
            try lines("run", [run]) + lines("step", metrics.steps) + lines("validation", metrics.validations)
            + lines("sample", metrics.samples) + lines("checkpoint", metrics.checkpoints)
        return all.joined(separator: "\n") + "\n"
    }
}
