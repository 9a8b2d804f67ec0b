import FeedbackDevice
import FeedbackTransformer
import Foundation
import Yams

/// One setting of a run: its name as a flag (`--d-model`), in a file (`d-model: 128`) and, upper-case with underscores,
/// in the environment (`FEEDBACK_D_MODEL`); how it is read from text, and what it may be.
public struct Setting: Sendable {
    public let name: String
    /// For help.
    public let summary: String
    /// What its text is.
    public let kind: Kind
    /// The values, where there are only some; else none.
    public let choices: [String]
    /// The value as text; nil where there is none.
    public let text: @Sendable (RunConfiguration) -> String?
    private let read: @Sendable (inout RunConfiguration, String) throws(ConfigurationError) -> Void

    /// What a setting's text is: what a command line asks for, and what a shell offers there.
    public enum Kind: Sendable {
        /// A whole number.
        case wholeNumber
        /// Any number.
        case number
        /// True or false.
        case bool
        /// One of `choices`.
        case choice
        /// The name or the path of a corpus.
        case data
        /// One of `choices`, or a tokenizer's file.
        case tokenizer
        /// Any other text.
        case text
    }

    public var environmentVariable: String {
        "FEEDBACK_" + name.uppercased().replacingOccurrences(of: "-", with: "_")
    }

    /// Sets the value from text. Throws with the name, the value, and what may be.
    public func set(_ text: String, in configuration: inout RunConfiguration) throws(ConfigurationError) {
        try read(&configuration, text)
    }

    // MARK: Kinds

    private typealias Path<Value> = WritableKeyPath<RunConfiguration, Value> & Sendable

    /// A setting whose value is at a path; `parse` is nil where text is no such value, which must be `needed`.
    private init<Value>(
        _ name: String, _ path: Path<Value>, _ summary: String, kind: Kind = .text, needed: String,
        choices: [String] = [],
        text: @escaping @Sendable (Value) -> String?, parse: @escaping @Sendable (String) -> Value?
    ) {
        self.init(name, path, summary, kind: kind, choices: choices, text: text) { text throws(ConfigurationError) in
            guard let value = parse(text) else { throw ConfigurationError("\(name) is \(text); it must be \(needed)") }
            return value
        }
    }

    private init<Value>(
        _ name: String, _ path: Path<Value>, _ summary: String, kind: Kind = .text, choices: [String] = [],
        text: @escaping @Sendable (Value) -> String?,
        value: @escaping @Sendable (String) throws(ConfigurationError) -> Value
    ) {
        self.name = name
        self.summary = summary
        self.kind = kind
        self.choices = choices
        self.text = { text($0[keyPath: path]) }
        read = { configuration, text throws(ConfigurationError) in
            configuration[keyPath: path] = try value(text)
        }
    }

    private static func integer(_ name: String, _ path: Path<Int>, _ range: ClosedRange<Int>, _ summary: String)
        -> Setting
    {
        let needed = "a whole number from \(range.lowerBound) to \(range.upperBound)"
        return Setting(
            name, path, summary, kind: .wholeNumber, needed: needed, text: { "\($0)" },
            parse: { Int($0).flatMap { range.contains($0) ? $0 : nil } })
    }

    private static func integer(_ name: String, _ path: Path<Int?>, _ range: ClosedRange<Int>, _ summary: String)
        -> Setting
    {
        let needed = "a whole number from \(range.lowerBound) to \(range.upperBound)"
        return Setting(
            name, path, summary, kind: .wholeNumber, needed: needed, text: { $0.map(String.init) },
            parse: { Int($0).flatMap { range.contains($0) ? .some($0) : nil } })
    }

    private static func number(
        _ name: String, _ path: Path<Double>, _ range: ClosedRange<Double>, _ summary: String
    ) -> Setting {
        let needed = "a number from \(range.lowerBound) to \(range.upperBound)"
        return Setting(
            name, path, summary, kind: .number, needed: needed, text: { "\($0)" },
            parse: { Double($0).flatMap { range.contains($0) ? $0 : nil } })
    }

    private static func number(
        _ name: String, _ path: Path<Double?>, _ range: ClosedRange<Double>, _ summary: String
    ) -> Setting {
        let needed = "a number from \(range.lowerBound) to \(range.upperBound)"
        return Setting(
            name, path, summary, kind: .number, needed: needed, text: { $0.map { "\($0)" } },
            parse: { Double($0).flatMap { range.contains($0) ? .some($0) : nil } })
    }

    private static func choice<C: RawRepresentable<String> & CaseIterable & Sendable>(
        _ name: String, _ path: Path<C>, _ summary: String
    ) -> Setting {
        let choices = C.allCases.map(\.rawValue)
        let list = choices.joined(separator: ", ")
        return Setting(
            name, path, "\(summary): \(list)", kind: .choice, needed: "one of \(list)", choices: choices,
            text: { $0.rawValue }, parse: { C(rawValue: $0) })
    }

    private static func choice<C: RawRepresentable<String> & CaseIterable & Sendable>(
        _ name: String, _ path: Path<C?>, _ summary: String
    ) -> Setting {
        let choices = C.allCases.map(\.rawValue)
        let list = choices.joined(separator: ", ")
        return Setting(
            name, path, "\(summary): \(list)", kind: .choice, needed: "one of \(list)", choices: choices,
            text: { $0?.rawValue }, parse: { C(rawValue: $0).map { .some($0) } })
    }

    private static func string(_ name: String, _ path: Path<String>, _ summary: String, kind: Kind = .text) -> Setting {
        Setting(name, path, summary, kind: kind, needed: "some text", text: { $0 }, parse: { $0.isEmpty ? nil : $0 })
    }

    // MARK: The table

    private static let many = 1...1_000_000_000

    public static let all: [Setting] = [
        choice("memory", \.memory, "where attention finds its memories"),
        choice("key-value", \.keyValue, "keys and values, one projection or one a layer"),
        choice("memory-norm", \.memoryNorm, "whether memories are normalised before keys and values"),
        integer("layers", \.layers, 1...1000, "layers"),
        integer("d-model", \.dModel, 1...65536, "width of the model"),
        integer("heads", \.heads, 1...65536, "attention heads; they divide d-model"),
        integer("d-ff", \.dFF, 1...1_048_576, "width of the feed-forward layers"),
        number("dropout", \.dropout, 0...0.99, "rate of dropout in training"),
        integer(
            "memory-window", \.memoryWindow, 1...4096,
            "memories a step sees at most; by default all, with streams as many as a sequence has steps"),
        choice("position-init", \.positionInitialization, "how a fresh model's distance bias begins"),
        string(
            "data", \.data, "a data set's or a task's name, a text file, several with commas, or a folder of them",
            kind: .data),
        Setting(
            "field", \.field, "the field of a line that has a text, in .jsonl files; by default text",
            needed: "some text", text: { $0 }, parse: { $0.isEmpty ? nil : .some($0) }),
        Setting(
            "validation", \.validation, "a text to validate by, as data; by default the last tenth of the data",
            kind: .data, needed: "a text file, several with commas, or a folder of them", text: { $0 },
            parse: { $0.isEmpty ? nil : .some($0) }),
        Setting(
            "tokenizer", \.tokenizer,
            "what a token is, by default a text's characters or a task's symbols: \(TokenizerChoice.choices), or "
                + "the path of a tokenizer.json, of a model or of a run",
            kind: .tokenizer, needed: "one of \(TokenizerChoice.choices), or the path of a tokenizer.json",
            choices: Tokenizer.Kind.allCases.map(\.rawValue), text: { $0?.text },
            parse: { TokenizerChoice($0).map { .some($0) } }),
        integer(
            "vocabulary-size", \.vocabularySize, Vocabulary.sizes,
            "tokens of --tokenizer bpe, at most; by default \(Vocabulary.usualSize)"),
        Setting(
            "streams", \.streams,
            "read contiguous streams and carry the memory from batch to batch; by default of a task only",
            kind: .bool, needed: "true or false",
            text: { $0.map(String.init) }, parse: { Bool($0).map { .some($0) } }),
        integer("sequence-length", \.sequenceLength, 1...65536, "steps of a sequence"),
        integer("batch-size", \.batchSize, 1...65536, "sequences of a batch"),
        Setting(
            "curriculum", \.curriculum,
            "sequence lengths that grow, as step:length,step:length, with as many tokens a batch; by default all are "
                + "of sequence-length",
            text: { $0?.description }, value: { text throws(ConfigurationError) in try Curriculum(text) }),
        Setting(
            "sequences", \.sequences, "a task's training sequences, read again and again; or fresh, drawn without end",
            needed: "fresh or a whole number from 1 to 1000000", text: { $0.map(String.init) ?? "fresh" },
            parse: {
                $0 == "fresh" ? .some(nil) : Int($0).flatMap { (1...1_000_000).contains($0) ? .some($0) : nil }
            }),
        Setting(
            "lessons", \.lessons,
            "how difficult a task's training sequences are, from which step or accuracy on, as 0:2-12,95%:2-40,99%:100;"
                + " by default as the task has them",
            text: { $0?.description }, value: { text throws(ConfigurationError) in try Lessons(text) }),
        Setting(
            "hints", \.hints, "train on more of a task's answers than it asks for", kind: .bool,
            needed: "true or false", text: { "\($0)" }, parse: { Bool($0) }),
        integer("steps", \.steps, many, "optimizer steps"),
        integer("epochs", \.epochs, 1...1_000_000, "passes over the training text, instead of steps"),
        integer(
            "seconds", \.seconds, 1...1_000_000_000,
            "about how long to train, instead of steps: as many as this machine takes in that time"),
        choice("optimizer", \.optimizer, "Adam with warm-up and a cosine, or with Noam's schedule"),
        number("learning-rate", \.learningRate, 0...1000, "adam's largest learning rate, noam's factor"),
        number(
            "minimum-learning-rate", \.minimumLearningRate, 0...1000,
            "where adam's schedule ends; by default 1e-4, or a tenth of learning-rate where that is lower"),
        integer("warmup-steps", \.warmupSteps, 0...1_000_000_000, "steps until the learning rate is largest"),
        number("beta2", \.beta2, 0...0.999999, "Adam's second decay rate"),
        number("weight-decay", \.weightDecay, 0...100, "decoupled weight decay of matrices"),
        number("gradient-clip", \.gradientClip, 0...1e9, "largest norm of the gradient; 0 for no limit"),
        integer("accumulate", \.accumulate, 1...65536, "batches whose mean gradient makes one step"),
        choice("precision", \.precision, "numbers to compute in"),
        Setting(
            "device", \.device, "what computes: \(DeviceName.choices); feedback devices lists what there is",
            needed: "\(DeviceName.choices)", text: { $0.description }, parse: { DeviceName($0) }),
        integer("threads", \.threads, 1...1024, "worker threads"),
        integer("seed", \.seed, 0...Int.max, "seed of all random numbers"),
        integer("eval-interval", \.evalInterval, many, "steps between validations"),
        integer("sample-interval", \.sampleInterval, many, "steps between samples"),
        integer("checkpoint-interval", \.checkpointInterval, many, "steps between checkpoints"),
        integer("keep", \.keep, many, "newest checkpoints to keep, besides the best"),
        integer(
            "patience", \.patience, many,
            "validations without a lower loss until training stops; by default it goes on"),
        string("sample-prompt", \.samplePrompt, "what samples continue"),
    ]

    /// The setting of a name, or an error that names the nearest.
    public static func named(_ name: String) throws(ConfigurationError) -> Setting {
        if let setting = all.first(where: { $0.name == name }) { return setting }
        if ["preset", "output", "init", "resume"].contains(name) {
            throw ConfigurationError("\(name) is no setting; give it on the command line, as --\(name)")
        }
        let nearest = all.min { distance($0.name, name) < distance($1.name, name) }!
        throw ConfigurationError("there is no setting \(name); did you mean \(nearest.name)?")
    }
}

/// How many single-character edits turn one name into another (Levenshtein 1966).
package func distance(_ a: String, _ b: String) -> Int {
    let b = Array(b)
    var row = Array(0...b.count)
    for (i, x) in a.enumerated() {
        var diagonal = row[0]
        row[0] = i + 1
        for (j, y) in b.enumerated() {
            (diagonal, row[j + 1]) = (row[j + 1], min(diagonal + (x == y ? 0 : 1), row[j] + 1, row[j + 1] + 1))
        }
    }
    return row[b.count]
}

/// What is wrong with a YAML file, and where, without its lines, which Yams' description repeats.
private func explain(_ error: YamlError) -> String {
    switch error {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
        .composer(_, let problem, let mark, _):
        "\(problem) in line \(mark.line), column \(mark.column)"
    case .reader(let problem, _, _, _): problem
    case .duplicatedKeysInMapping(let names, _): "\(names.sorted().joined(separator: ", ")) is there twice"
    default: "\(error)"
    }
}

// MARK: Files and environment

extension RunConfiguration {
    /// Applies the settings of a YAML file: one mapping of names to values.
    public mutating func apply(contentsOf file: URL) throws {
        let data = try readRegularFile(file)
        guard data.count <= 1 << 16, let text = String(validating: data, as: UTF8.self) else {
            throw ConfigurationError("\(file.path) is not a configuration: it must be UTF-8 text of at most 64 KiB")
        }
        // Aliases of aliases grow without bound, and so does the work on what is nested deeply; no setting needs either.
        let anchors = Set(text.matches(of: /&([A-Za-z0-9_-]+)/.matchingSemantics(.unicodeScalar)).map(\.1))
        guard
            anchors.isDisjoint(with: text.matches(of: /\*([A-Za-z0-9_-]+)/.matchingSemantics(.unicodeScalar)).map(\.1)),
            text.count(where: { "[{".contains($0) }) <= 64
        else { throw ConfigurationError("\(file.path): every setting needs one plain value, such as layers: 4") }
        let root: Node?
        do {
            root = try Yams.compose(yaml: text)
        } catch let error as YamlError {
            throw ConfigurationError("\(file.path) is not YAML: \(explain(error))")
        }
        guard let root else { return }
        guard let mapping = root.mapping else {
            throw ConfigurationError("\(file.path) must be a mapping of settings to values, such as layers: 4")
        }
        let lengths = mapping.compactMap { $0.key.scalar?.string }.filter {
            ["steps", "epochs", "seconds"].contains($0)
        }
        guard lengths.count < 2 else {
            throw ConfigurationError("\(file.path) has \(lengths.joined(separator: " and ")); give only one of them")
        }
        for (key, value) in mapping {
            guard let name = key.scalar?.string, let value = value.scalar?.string else {
                throw ConfigurationError("\(file.path): every setting needs one plain value, such as layers: 4")
            }
            do {
                try Setting.named(name).set(value, in: &self)
            } catch {
                throw ConfigurationError("\(file.path): \(error)")
            }
        }
    }

    /// The variables of an environment that look like settings and are none, each with the nearest that is.
    public static func unknown(in environment: [String: String]) -> [(name: String, nearest: String)] {
        let known = Set(
            Setting.all.map(\.environmentVariable) + ["FEEDBACK_API_KEY", "FEEDBACK_DATA_DIR", "FEEDBACK_RUNS"])
        return environment.keys.filter { name in
            name.hasPrefix("FEEDBACK_") && !name.hasPrefix("FEEDBACK_TEST_") && !known.contains(name)
        }.sorted().map { name in (name, known.min { (distance($0, name), $0) < (distance($1, name), $1) }!) }
    }

    /// Applies the settings found in an environment.
    public mutating func apply(environment: [String: String]) throws(ConfigurationError) {
        let lengths = ["FEEDBACK_STEPS", "FEEDBACK_EPOCHS", "FEEDBACK_SECONDS"].filter { environment[$0] != nil }
        guard lengths.count < 2 else {
            throw ConfigurationError("\(lengths.joined(separator: " and ")) are set; set only one of them")
        }
        for setting in Setting.all {
            guard let text = environment[setting.environmentVariable] else { continue }
            do {
                try setting.set(text, in: &self)
            } catch {
                throw ConfigurationError("\(setting.environmentVariable): \(error)")
            }
        }
    }

    /// The settings that have a value, by name, as text.
    package var settings: [String: String] {
        let pairs = Setting.all.compactMap { setting in setting.text(self).map { (setting.name, $0) } }
        return Dictionary(uniqueKeysWithValues: pairs)
    }

    /// Every setting as YAML, which `apply(contentsOf:)` reads back.
    public func yaml() throws -> String {
        let pairs = Setting.all.compactMap { setting in
            setting.text(self).map { (Node(setting.name), Node($0)) }
        }
        return try Yams.serialize(node: Node(pairs))
    }
}
