import FeedbackTraining
import FeedbackTransformer
import Foundation
import Testing

@Suite struct SettingTests {
    private func apply(_ yaml: String) throws -> RunConfiguration {
        let file = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).yaml")
        defer { try? FileManager.default.removeItem(at: file) }
        try Data(yaml.utf8).write(to: file)
        var configuration = RunConfiguration()
        try configuration.apply(contentsOf: file)
        return configuration
    }

    @Test(arguments: RunConfiguration.Preset.allCases) func presetsArePossibleAndSurviveYAML(
        preset: RunConfiguration.Preset
    ) throws {
        var configuration = RunConfiguration(preset: preset)
        try configuration.validate()
        configuration.memoryWindow = 17
        (configuration.patience, configuration.tokenizer, configuration.streams) = (3, .bytes, true)
        configuration.curriculum = try Curriculum("0:5,9:30")
        configuration.lessons = try Lessons("0:2-12,95.5%:40")
        (configuration.sequences, configuration.hints) = (77, true)
        configuration.samplePrompt = "yes: \"no\" # 1\n"
        configuration.data = "1e3"
        configuration.learningRate = 1.0 / 3
        #expect(try apply(configuration.yaml()) == configuration)
    }

    @Test func filesSetWhatTheyName() throws {
        let configuration = try apply("layers: 7\nlearning-rate: 3e-4\nmemory: per-layer\nepochs: 2 # enough\n")
        #expect(configuration.layers == 7 && configuration.learningRate == 3e-4 && configuration.memory == .perLayer)
        #expect(configuration.length == .epochs(2))
        #expect(try apply("") == RunConfiguration())
    }

    @Test func environmentSetsWhatItNames() throws {
        var configuration = RunConfiguration()
        try configuration.apply(environment: ["FEEDBACK_D_FF": "99", "FEEDBACK_DATA_DIR": "/x", "HOME": "/"])
        #expect(configuration.dFF == 99)
        #expect(throws: ConfigurationError("FEEDBACK_HEADS: heads is two; it must be a whole number from 1 to 65536")) {
            try configuration.apply(environment: ["FEEDBACK_HEADS": "two"])
        }
    }

    @Test func unknownKeysAreNamedWithTheNearest() {
        #expect {
            try apply("layer: 3")
        } throws: { "\($0)".hasSuffix("there is no setting layer; did you mean layers?") }
        #expect {
            try apply("d_model: 3")
        } throws: { "\($0)".hasSuffix("there is no setting d_model; did you mean d-model?") }
    }

    @Test(arguments: [
        "layers: 0", "layers: -3", "layers: 1.5", "layers: many", "layers: 99999999999999999999", "layers: [1]",
        "layers:",
        "learning-rate: nan", "learning-rate: inf", "learning-rate: -1", "learning-rate: 1e400", "beta2: 1", "heads: 0",
        "d-model: 1000000000", "batch-size: 1000000000", "memory-window: 4097", "memory-window: 0", "memory: sometimes",
        "- layers", "just text", "layers: 3\nlayers: 4", "a: b: c", "? [x]\n: 1", "seed: -1", "data: ''",
        "curriculum: 5:3", "streams: maybe", "lessons: 5:3", "sequences: 0", "sequences: some", "hints: 1",
        "memory-norm: both",
        "tokenizer: letters", "vocabulary-size: 256", "vocabulary-size: 65537", "field: ''", "validation: ''",
    ]) func unusableFilesAreRefused(yaml: String) {
        #expect(throws: ConfigurationError.self) { try apply(yaml) }
    }

    /// Aliases of aliases, and deep nesting, are refused as fast as anything else.
    @Test func yamlThatGrowsIsRefused() {
        let bomb = (1...40).reduce("? &a0 [x, x]\n: 1\n") { $0 + "? &a\($1) [*a\($1 - 1), *a\($1 - 1)]\n: 1\n" }
        let nested = String(repeating: "[", count: 30_000)
        let time = ContinuousClock().measure {
            // An anchor's name need not be a word, and it may follow a colon at once.
            let inFlow = (1...24).reduce("{\"k\":&a0 [x, x]") {
                $0 + ", ? {\"k\":&a\($1) [*a\($1 - 1), *a\($1 - 1)]}: 1"
            }
            let hidden = [bomb.replacing("a", with: "-"), inFlow + "}"]
            for text in hidden + [bomb, "layers: " + nested, nested, "seed: &s 4\nlayers: *s", "steps: 3\nepochs: 4"] {
                #expect(throws: ConfigurationError.self) { try apply(text) }
            }
        }
        #expect(time < .seconds(2))
    }

    /// The schedule ends below its peak, whatever the peak is, unless it is told where.
    @Test func theScheduleEndsBelowItsPeak() throws {
        let small = try apply("learning-rate: 5e-5")
        try small.validate()
        #expect(small.minimumLearningRate == nil)
        #expect(throws: ConfigurationError.self) {
            try apply("learning-rate: 5e-5\nminimum-learning-rate: 1e-4").validate()
        }
    }

    /// A kind by its name, or a file by its path; a vocabulary's size is BPE's.
    @Test func tokenizersAreKindsOrFiles() throws {
        #expect(try apply("tokenizer: bpe\nvocabulary-size: 300").tokenizer == .bpe)
        #expect(try apply("tokenizer: ./gpt2").tokenizer == .file("./gpt2"))
        #expect(try apply("tokenizer: a.json").tokenizer == .file("a.json"))
        #expect {
            try apply("tokenizer: letters")
        } throws: {
            "\($0)".hasSuffix(
                "tokenizer is letters; it must be one of characters, bytes, words, symbols, bpe, or the path of a "
                    + "tokenizer.json")
        }
        #expect {
            try apply("vocabulary-size: 300").validate()
        } throws: { "\($0)".contains("vocabulary-size is 300, which only a BPE tokenizer has") }
    }

    @Test func variablesThatAreNoSettingsAreNamed() {
        let found = RunConfiguration.unknown(in: [
            "FEEDBACK_D_MODL": "3", "FEEDBACK_SEED": "1", "FEEDBACK_API_KEY": "k", "HOME": "/", "FEEDBACK_TEST_X": "",
        ])
        #expect(found.map(\.name) == ["FEEDBACK_D_MODL"] && found.map(\.nearest) == ["FEEDBACK_D_MODEL"])
    }

    @Test func everySettingReadsItsOwnText() throws {
        var configuration = RunConfiguration(preset: .labml)
        configuration.memoryWindow = 5
        (configuration.patience, configuration.tokenizer, configuration.streams) = (3, .words, false)
        configuration.curriculum = try Curriculum("0:5,9:30")
        for setting in Setting.all {
            guard let text = setting.text(configuration) else { continue }
            var copy = configuration
            try setting.set(text, in: &copy)
            #expect(copy == configuration, "\(setting.name)")
            #expect(!setting.summary.isEmpty)
        }
    }
}
