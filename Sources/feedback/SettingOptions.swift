import ArgumentParser
import FeedbackTraining
import Foundation

/// A whole number as typed; its range is checked with the other settings.
struct WholeNumber: ExpressibleByArgument {
    let text: String
    init?(argument: String) {
        guard argument.wholeMatch(of: /[-+]?[0-9]+/) != nil else { return nil }
        text = argument
    }
}

/// A number as typed; its range is checked with the other settings.
struct Number: ExpressibleByArgument {
    let text: String
    init?(argument: String) {
        guard Double(argument) != nil else { return nil }
        text = argument
    }
}

/// The settings of a run as flags. Each is found in `Setting.all` by its name.
struct SettingOptions: ParsableArguments {
    @Option(parsing: .unconditional, help: help("memory"), completion: choices("memory"))
    var memory: String?
    @Option(parsing: .unconditional, help: help("key-value"), completion: choices("key-value"))
    var keyValue: String?
    @Option(parsing: .unconditional, help: help("memory-norm"), completion: choices("memory-norm"))
    var memoryNorm: String?
    @Option(parsing: .unconditional, help: help("layers")) var layers: WholeNumber?
    @Option(name: .customLong("d-model"), parsing: .unconditional, help: help("d-model")) var dModel: WholeNumber?
    @Option(parsing: .unconditional, help: help("heads")) var heads: WholeNumber?
    @Option(name: .customLong("d-ff"), parsing: .unconditional, help: help("d-ff")) var dFF: WholeNumber?
    @Option(parsing: .unconditional, help: help("dropout")) var dropout: Number?
    @Option(parsing: .unconditional, help: help("memory-window")) var memoryWindow: WholeNumber?
    @Option(parsing: .unconditional, help: help("position-init"), completion: choices("position-init"))
    var positionInit: String?
    @Option(parsing: .unconditional, help: help("data"), completion: .data) var data: String?
    @Option(parsing: .unconditional, help: help("tokenizer"), completion: choices("tokenizer"))
    var tokenizer: String?
    @Flag(inversion: .prefixedNo, help: help("streams")) var streams: Bool?
    @Option(parsing: .unconditional, help: help("sequence-length")) var sequenceLength: WholeNumber?
    @Option(parsing: .unconditional, help: help("batch-size")) var batchSize: WholeNumber?
    @Option(parsing: .unconditional, help: help("curriculum")) var curriculum: String?
    @Option(parsing: .unconditional, help: help("sequences")) var sequences: String?
    @Option(parsing: .unconditional, help: help("lessons")) var lessons: String?
    @Flag(inversion: .prefixedNo, help: help("hints")) var hints: Bool?
    @Option(parsing: .unconditional, help: help("steps")) var steps: WholeNumber?
    @Option(parsing: .unconditional, help: help("epochs")) var epochs: WholeNumber?
    @Option(parsing: .unconditional, help: help("seconds")) var seconds: WholeNumber?
    @Option(parsing: .unconditional, help: help("optimizer"), completion: choices("optimizer"))
    var optimizer: String?
    @Option(parsing: .unconditional, help: help("learning-rate")) var learningRate: Number?
    @Option(parsing: .unconditional, help: help("minimum-learning-rate")) var minimumLearningRate: Number?
    @Option(parsing: .unconditional, help: help("warmup-steps")) var warmupSteps: WholeNumber?
    @Option(name: .customLong("beta2"), parsing: .unconditional, help: help("beta2")) var beta2: Number?
    @Option(parsing: .unconditional, help: help("weight-decay")) var weightDecay: Number?
    @Option(parsing: .unconditional, help: help("gradient-clip")) var gradientClip: Number?
    @Option(parsing: .unconditional, help: help("accumulate")) var accumulate: WholeNumber?
    @Option(parsing: .unconditional, help: help("precision"), completion: choices("precision"))
    var precision: String?
    @Option(parsing: .unconditional, help: help("threads")) var threads: WholeNumber?
    @Option(parsing: .unconditional, help: help("seed")) var seed: WholeNumber?
    @Option(parsing: .unconditional, help: help("eval-interval")) var evalInterval: WholeNumber?
    @Option(parsing: .unconditional, help: help("sample-interval")) var sampleInterval: WholeNumber?
    @Option(parsing: .unconditional, help: help("checkpoint-interval")) var checkpointInterval: WholeNumber?
    @Option(parsing: .unconditional, help: help("keep")) var keep: WholeNumber?
    @Option(parsing: .unconditional, help: help("patience")) var patience: WholeNumber?
    @Option(parsing: .unconditional, help: help("sample-prompt")) var samplePrompt: String?

    private static func help(_ name: String) -> ArgumentHelp {
        let setting = setting(name)
        let usual = setting.text(RunConfiguration()).map { " (default: \($0))" } ?? ""
        return ArgumentHelp(
            "\(setting.summary.prefix(1).uppercased() + setting.summary.dropFirst()).\(usual)", valueName: "value")
    }

    private static func choices(_ name: String) -> CompletionKind { .list(setting(name).choices) }

    private static func setting(_ name: String) -> Setting { Setting.all.first { $0.name == name }! }

    /// The settings that were given, by name.
    var given: [(name: String, text: String)] {
        let all: [(String, String?)] = [
            ("memory", memory), ("key-value", keyValue), ("memory-norm", memoryNorm), ("layers", layers?.text),
            ("d-model", dModel?.text), ("heads", heads?.text), ("d-ff", dFF?.text), ("dropout", dropout?.text),
            ("memory-window", memoryWindow?.text),
            ("position-init", positionInit), ("data", data), ("tokenizer", tokenizer),
            ("streams", streams.map { "\($0)" }), ("sequence-length", sequenceLength?.text),
            ("batch-size", batchSize?.text), ("curriculum", curriculum), ("sequences", sequences),
            ("lessons", lessons), ("hints", hints.map { "\($0)" }), ("steps", steps?.text),
            ("epochs", epochs?.text), ("seconds", seconds?.text), ("optimizer", optimizer),
            ("learning-rate", learningRate?.text), ("minimum-learning-rate", minimumLearningRate?.text),
            ("warmup-steps", warmupSteps?.text), ("beta2", beta2?.text), ("weight-decay", weightDecay?.text),
            ("gradient-clip", gradientClip?.text), ("accumulate", accumulate?.text), ("precision", precision),
            ("threads", threads?.text),
            ("seed", seed?.text), ("eval-interval", evalInterval?.text), ("sample-interval", sampleInterval?.text),
            ("checkpoint-interval", checkpointInterval?.text), ("keep", keep?.text), ("patience", patience?.text),
            ("sample-prompt", samplePrompt),
        ]
        precondition(Set(all.map(\.0)) == Set(Setting.all.map(\.name)), "every setting is a flag")
        return all.compactMap { name, text in text.map { (name, $0) } }
    }

    func validate() throws {
        if [steps, epochs, seconds].count(where: { $0 != nil }) > 1 {
            throw ValidationError("give only one of --steps, --epochs and --seconds")
        }
    }

    /// Applies the settings that were given.
    func apply(to configuration: inout RunConfiguration) throws {
        for (name, text) in given { try Setting.named(name).set(text, in: &configuration) }
    }
}
