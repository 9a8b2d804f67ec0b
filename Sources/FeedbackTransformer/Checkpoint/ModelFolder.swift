import Foundation

/// A model on disk: `config.json`, `model.safetensors` with a labml checkpoint's names, and `tokenizer.json`.
public struct ModelFolder: Sendable {
    public var model: FeedbackModel
    public let tokenizer: Tokenizer
    /// The sequence length that the model was trained with, if it was.
    public var sequenceLength: Int?

    public init(model: FeedbackModel, tokenizer: Tokenizer, sequenceLength: Int? = nil) {
        precondition(tokenizer.vocabularySize == model.configuration.vocabulary)
        self.model = model
        self.tokenizer = tokenizer
        self.sequenceLength = sequenceLength
    }

    /// The memories a step should see where nothing else is asked for: as many as in training, since the model has
    /// learned no positions beyond.
    public var memoryWindow: Int { min(model.configuration.window, sequenceLength ?? .max) }

    private struct Configuration: Codable {
        var format = "feedback-transformer"
        var version = 1
        var memory: MemoryRouting
        var keyValue: KeyValueSharing
        /// None where the key is missing, as in folders from before there was one.
        var memoryNorm: MemoryNorm?
        var layers, dModel, heads, dFF, vocabulary, positions: Int
        var memoryWindow: Int?
        var sequenceLength: Int?

        enum CodingKeys: String, CodingKey {
            case format, version, memory, memoryNorm, layers, heads, positions
            case keyValue = "key_value"
            case dModel = "d_model"
            case dFF = "d_ff"
            case vocabulary = "vocab"
            case memoryWindow = "memory_window"
            case sequenceLength = "sequence_length"
        }
    }

    // MARK: Reading

    /// Throws where a file is missing, damaged or does not fit the others.
    public init(contentsOf folder: URL) throws {
        let data = try readRegularFile(folder.appending(path: "config.json"))
        let file: Configuration
        do {
            file = try JSONDecoder().decode(Configuration.self, from: data)
        } catch {
            throw FileError("\(folder.path)/config.json is not a model's configuration: \(explain(error))")
        }
        guard file.format == "feedback-transformer", file.version == 1 else {
            throw FileError(
                "\(folder.path)/config.json is of the format \(file.format) \(file.version), not known here")
        }
        let configuration = ModelConfiguration(
            memory: file.memory, keyValue: file.keyValue, memoryNorm: file.memoryNorm ?? .none, layers: file.layers,
            dModel: file.dModel, heads: file.heads, dFF: file.dFF, vocabulary: file.vocabulary,
            positions: file.positions, memoryWindow: file.memoryWindow)
        do {
            try configuration.validate()
        } catch {
            throw FileError("\(folder.path)/config.json: \(error)")
        }
        if let length = file.sequenceLength, length < 1 {
            throw FileError("\(folder.path)/config.json: sequence_length is \(length)")
        }
        let tokenizer = try Tokenizer(contentsOf: folder.appending(path: "tokenizer.json"))
        guard tokenizer.vocabularySize == configuration.vocabulary else {
            throw FileError(
                "\(folder.path): the tokenizer has \(tokenizer.vocabularySize) tokens, the model "
                    + "\(configuration.vocabulary); they do not belong together")
        }
        let model = try FeedbackModel(configuration, safetensors: folder.appending(path: "model.safetensors"))
        self.init(model: model, tokenizer: tokenizer, sequenceLength: file.sequenceLength)
    }

    // MARK: Writing

    /// Writes the three files into a folder that exists.
    package func write(into folder: URL) throws {
        let c = model.configuration
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        let data = try encoder.encode(
            Configuration(
                memory: c.memory, keyValue: c.keyValue, memoryNorm: c.memoryNorm, layers: c.layers, dModel: c.dModel,
                heads: c.heads, dFF: c.dFF, vocabulary: c.vocabulary, positions: c.positions,
                memoryWindow: c.memoryWindow,
                sequenceLength: sequenceLength))
        try writeFile(folder.appending(path: "config.json")) { try $0.write(contentsOf: data) }
        try tokenizer.write(to: folder.appending(path: "tokenizer.json"))
        try Safetensors.write(
            model.parameters.tensors(), metadata: ["format": "pt"], to: folder.appending(path: "model.safetensors"))
    }

    /// Saves a model folder: whole, or not at all.
    public func save(to folder: URL) throws {
        try writeFolder(folder) { try write(into: $0) }
    }
}

extension FeedbackModel {
    /// A model whose parameters come from a safetensors file; every parameter must be there, and nothing else.
    init(_ configuration: ModelConfiguration, safetensors file: URL) throws {
        let (tensors, table) = (try Safetensors(contentsOf: file), ParameterTable(configuration))
        do {
            self.init(try Parameters(table, tensors))
        } catch {
            throw FileError("\(file.path): \(error)")
        }
    }
}

extension Parameters {
    /// Every parameter as a tensor to write.
    package func tensors(prefix: String = "") -> [Safetensors.Tensor] {
        table.parameters.map { parameter in
            Safetensors.Tensor(name: prefix + parameter.name, shape: parameter.shape, values: values[parameter.range])
        }
    }

    /// Every parameter from the tensors of a file whose names begin with a prefix: all must be there, with the right shapes,
    /// finite, and no others.
    package init(_ table: ParameterTable, _ file: Safetensors, prefix: String = "") throws(SafetensorsError) {
        for name in file.entries.keys.sorted()
        where name.hasPrefix(prefix) && table[String(name.dropFirst(prefix.count))] == nil {
            throw .malformed("it has a tensor \(name) that such a model does not have")
        }
        // Before there is room for them: a configuration can ask for any.
        for parameter in table.parameters { try file.check(prefix + parameter.name, shape: parameter.shape) }
        self.init(table)
        for parameter in table.parameters {
            let own = try file.floats(prefix + parameter.name, shape: parameter.shape)
            guard own.allSatisfy(\.isFinite) else {
                throw .malformed("the tensor \(prefix)\(parameter.name) has values that are not finite")
            }
            values.replaceSubrange(parameter.range, with: own)
        }
    }
}
