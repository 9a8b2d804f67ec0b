import FeedbackDevice
import FeedbackEngine
import FeedbackTransformer
import Foundation

/// Everything that decides what a training run does. Each setting is declared once more in `Setting.all`, which names it
/// for flags, environment, and files.
public struct RunConfiguration: Equatable, Sendable {
    // The model.
    public var memory = MemoryRouting.feedback
    public var keyValue = KeyValueSharing.shared
    public var memoryNorm = MemoryNorm.layer
    public var layers = 4
    public var dModel = 128
    public var heads = 4
    public var dFF = 512
    /// The rate at which attention weights, hidden units and what a block adds are dropped in training.
    public var dropout = 0.0
    /// Where nil, as many memories as the tables of positions have; with streams, `sequenceLength`.
    public var memoryWindow: Int?
    public var positionInitialization = PositionInitialization.slopes

    // The data.
    public var data = KnownCorpus.tinyShakespeare.name
    /// The field of a line that has a text, in `.jsonl` files; where nil, `text`.
    public var field: String?
    /// A text to validate by; where nil, the last tenth of the data.
    public var validation: String?
    /// Where nil, the corpus's own: the characters of a text, the symbols of a task.
    public var tokenizer: TokenizerChoice?
    /// The tokens of a BPE tokenizer that is made of the text, at most; where nil, `Vocabulary.usualSize`.
    public var vocabularySize: Int?
    /// Whether the data is read as contiguous streams, with the memory carried from batch to batch, rather than as
    /// shuffled windows; where nil, as the corpus is: a task's sequences are streams.
    public var streams: Bool?
    public var sequenceLength = 64
    public var batchSize = 12
    /// Sequences that grow; `sequenceLength` · `batchSize` then only says how many tokens a batch has.
    public var curriculum: Curriculum?

    /// How many sequences a task's training reads again and again; where nil, they are drawn while it trains, without end.
    public var sequences: Int?
    /// A task's training from easy to hard; where nil, always the standard task.
    public var lessons: Lessons?
    /// Whether training predicts a task's hints too.
    public var hints = false

    // The optimizer.
    public enum Optimizer: String, CaseIterable, Sendable {
        /// Warm-up, then a cosine.
        case adam
        /// The Noam schedule.
        case noam
    }
    public typealias Precision = FeedbackEngine.Precision
    /// How long to train.
    public enum Length: Equatable, Sendable {
        case steps(Int)
        /// Passes over the training text.
        case epochs(Int)
        /// As many steps as this machine takes in about that time, measured when the run begins.
        case seconds(Int)
    }
    public var length = Length.steps(2000)
    public var optimizer = Optimizer.adam
    /// The peak of `adam`'s schedule; the factor of `noam`'s.
    public var learningRate = 1e-3
    /// Where `adam`'s schedule ends; where nil, at 1e-4, or at a tenth of the peak where that is lower.
    public var minimumLearningRate: Double?
    public var warmupSteps = 100
    public var beta2 = 0.99
    public var weightDecay = 0.1
    public var gradientClip = 1.0
    /// Batches whose mean gradient makes one optimizer step.
    public var accumulate = 1

    // The run.
    public var precision = Precision.float32
    public var device = DeviceName.cpu
    public var threads = ProcessInfo.processInfo.activeProcessorCount
    public var seed = 1
    public var evalInterval = 250
    public var sampleInterval = 500
    public var checkpointInterval = 500
    /// The newest checkpoints that are kept; the best always is.
    public var keep = 2
    /// Evaluations in a row that may be no better than the best.
    public var patience: Int?
    public var samplePrompt = "It is"

    public init() {}

    /// The length, where it is in steps; setting it makes it so.
    public var steps: Int? {
        get { if case .steps(let steps) = length { steps } else { nil } }
        set { if let newValue { length = .steps(newValue) } }
    }
    /// The length, where it is in epochs; setting it makes it so.
    public var epochs: Int? {
        get { if case .epochs(let epochs) = length { epochs } else { nil } }
        set { if let newValue { length = .epochs(newValue) } }
    }

    /// The length, where it is in seconds; setting it makes it so.
    public var seconds: Int? {
        get { if case .seconds(let seconds) = length { seconds } else { nil } }
        set { if let newValue { length = .seconds(newValue) } }
    }

    /// The model of these settings, for a vocabulary.
    public func model(vocabulary: Int) -> ModelConfiguration {
        ModelConfiguration(
            memory: memory, keyValue: keyValue, memoryNorm: memoryNorm, layers: layers, dModel: dModel, heads: heads,
            dFF: dFF, vocabulary: vocabulary, memoryWindow: memoryWindow)
    }

    /// Takes the sizes of a model to begin with, and what its tokens are; where memories come from stays the run's own.
    ///
    /// - Parameters:
    ///   - folder: the model.
    ///   - url: where it is: a BPE model's run needs its tokenizer.
    public mutating func takeSizes(of folder: ModelFolder, at url: URL? = nil) {
        let model = folder.model.configuration
        (layers, dModel, heads, dFF) = (model.layers, model.dModel, model.heads, model.dFF)
        (keyValue, memoryNorm) = (model.keyValue, model.memoryNorm)
        tokenizer = .kind(folder.tokenizer.kind)
        if folder.tokenizer.kind == .bpe, let url { tokenizer = .file(url.appending(path: "tokenizer.json").path) }
    }

    /// Turns paths into such as mean the same from everywhere, so that the run can go on from anywhere; what standard input has
    /// goes to a file in the cache.
    public mutating func makePathsAbsolute() throws {
        data = try TextCorpus.absolute(data)
        validation = try validation.map { try TextCorpus.absolute($0) }
        if case .file(let path)? = tokenizer { tokenizer = .file(URL(filePath: path).standardizedFileURL.path) }
    }

    /// A named starting point.
    public enum Preset: String, CaseIterable, Sendable {
        /// Tiny Shakespeare as well as half an hour on two cores allows.
        case best
        /// About two minutes on two cores.
        case demo
        /// labml's training script.
        case labml
        /// labml's notebook.
        case labmlNotebook = "labml-notebook"
        /// Programs to be run in the head, from short ones to the paper's: the recipe of Documentation/Results.md.
        case programs
        /// The size and the schedule of nanoGPT's Shakespeare example for a CPU.
        case nanogptCPU = "nanogpt-cpu"
    }

    public init(preset: Preset) {
        switch preset {
        case .demo:
            // What two minutes are best spent on: Documentation/Results.md.
            (layers, learningRate, memoryNorm) = (2, 4e-3, .none)
            (length, evalInterval) = (.seconds(110), 500)
            if Precision.bfloat16.isSupported { precision = .bfloat16 }
        case .best:
            (layers, dModel, heads, dFF, memoryNorm) = (3, 192, 6, 768, .none)
            (sequenceLength, batchSize, dropout, learningRate) = (128, 16, 0.15, 3e-3)
            (length, evalInterval, sampleInterval, checkpointInterval) = (.seconds(1780), 1000, 2500, 1000)
            if Precision.bfloat16.isSupported { precision = .bfloat16 }
        case .programs:
            (data, lessons, hints) = ("variables-3", Lessons(2...30, then: [(95, 2...100), (98, 50...100)]), true)
            (layers, dModel, dFF, sequenceLength, batchSize, memoryWindow) = (2, 64, 256, 32, 32, 64)
            (learningRate, minimumLearningRate, weightDecay) = (1e-3, 1e-5, 0.01)
            (length, evalInterval, sampleInterval, checkpointInterval) = (.steps(70_000), 2500, 2500, 2500)
            if Precision.bfloat16.isSupported { precision = .bfloat16 }
        case .nanogptCPU: memoryNorm = .none
        case .labml, .labmlNotebook:
            (layers, dModel, heads, dFF, memoryNorm) = (6, 512, 8, 2048, .none)
            (optimizer, learningRate, warmupSteps) = (.noam, 1, 2000)
            (beta2, weightDecay, positionInitialization) = (0.999, 0, .zero)
            length = .epochs(128)
            if preset == .labml {
                (sequenceLength, batchSize, keyValue) = (128, 64, .shared)
                (evalInterval, sampleInterval, checkpointInterval) = (122, 61, 122)
            } else {
                (sequenceLength, batchSize, keyValue) = (64, 80, .perLayer)
                (evalInterval, sampleInterval, checkpointInterval) = (196, 98, 196)
            }
        }
    }

    /// What computes a run, where nothing else is asked for. Throws where the device is not there.
    public var backend: any Backend { get throws(ConfigurationError) { try backend(OneProcess()) } }

    func backend(_ communicator: any Communicator) throws(ConfigurationError) -> any Backend {
        guard device == .cpu else {
            if communicator.ranks == 1 { return try device.backend(threads: threads, precision: precision) }
            throw ConfigurationError(
                "\(communicator.ranks) ranks compute on CPUs; leave out --device, or start one process")
        }
        var backend = CPUBackend(threads: threads, precision: precision)
        backend.communicator = communicator
        return backend
    }

    /// Throws on settings that are each possible but do not go together.
    public func validate() throws(ConfigurationError) {
        try model(vocabulary: 1).validate()
        if let vocabularySize, tokenizer != .kind(.bpe) {
            throw ConfigurationError(
                "vocabulary-size is \(vocabularySize), which only a BPE tokenizer has; leave it out, or give --tokenizer bpe"
            )
        }
        if optimizer == .adam, let minimumLearningRate {
            guard minimumLearningRate <= learningRate else {
                throw ConfigurationError(
                    "minimum-learning-rate (\(minimumLearningRate)) is above learning-rate (\(learningRate))")
            }
        }
    }

    /// Falls back to float32 where bfloat16 would not help, and says why: this CPU cannot compute in it, or is no faster.
    public mutating func settlePrecision() -> String? {
        guard precision == .bfloat16, device == .cpu else { return nil }
        if !precision.isSupported {
            precision = .float32
            return "this CPU does not multiply bfloat16; training in float32"
        }
        let gain = Precision.bfloat16.speedOverFloat32()
        if gain > 1.1 { return nil }
        precision = .float32
        return String(
            format: "bfloat16 products run at %.2f times float32's speed on this CPU; training in float32", gain)
    }
}

/// What turns a run's text into tokens: a tokenizer that is made of the text, or one that is there.
public enum TokenizerChoice: Equatable, Sendable {
    case kind(Tokenizer.Kind)
    /// The path of a `tokenizer.json`, or of the folder of a model or a run.
    case file(String)

    public static let characters = Self.kind(.characters)
    public static let bytes = Self.kind(.bytes)
    public static let words = Self.kind(.words)
    public static let symbols = Self.kind(.symbols)
    public static let bpe = Self.kind(.bpe)

    static let choices = Tokenizer.Kind.allCases.map(\.rawValue).joined(separator: ", ")

    /// What somebody has typed: a kind, or a path, which has a slash or a dot in it; nil where it is neither.
    init?(_ text: String) {
        if let kind = Tokenizer.Kind(rawValue: text) {
            self = .kind(kind)
        } else if text.contains("/") || text.contains(".") {
            self = .file(text)
        } else {
            return nil
        }
    }

    var text: String {
        switch self {
        case .kind(let kind): kind.rawValue
        case .file(let path): path
        }
    }

    /// The tokenizer in a file, or in the folder of a model or a run.
    static func read(_ path: String) throws -> Tokenizer {
        let url = URL(filePath: path)
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue else {
            return try Tokenizer(contentsOf: url)
        }
        let model = RunFolder.bestCheckpoint(of: url) ?? RunFolder.newestCheckpoint(of: url) ?? url
        return try Tokenizer(contentsOf: model.appending(path: "tokenizer.json"))
    }
}
