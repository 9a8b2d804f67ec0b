import Foundation

extension FeedbackModel {
    /// The model of a checkpoint of labml's feedback transformer: a file of PyTorch's, a safetensors file, or the folder that labml
    /// has made.
    ///
    /// Sizes and variant are what the tensors' names and shapes say. The names may have something before them, such as
    /// `module.`, and the state dict may be in a dictionary under `model`, `state_dict` or `model_state_dict`. Nothing that the
    /// file holds is executed. Throws one line that tells what is wrong: of tensors, all that are missing, unknown or of another
    /// shape.
    public init(labml file: URL) throws {
        do {
            try self.init(LabmlCheckpoint(ForeignTensors(labml: file)))
        } catch let error as Malformed {
            throw FileError("\(file.path): \(error.what)")
        } catch let error as ConfigurationError {
            throw FileError("\(file.path): \(error)")
        }
    }

    private init(_ checkpoint: LabmlCheckpoint) throws {
        let configuration = try checkpoint.configuration()
        let table = ParameterTable(configuration)
        try checkpoint.check(table)
        var parameters = Parameters(table)
        for parameter in table.parameters {
            let values: [Float]
            do { values = try checkpoint.tensors[parameter.name]!.floats() } catch let error as Malformed {
                throw Malformed("the tensor \(parameter.name) \(error.what)")
            }
            guard values.allSatisfy(\.isFinite) else {
                throw Malformed("the tensor \(parameter.name) has values that are not finite")
            }
            parameters.values.replaceSubrange(parameter.range, with: values)
        }
        self.init(parameters)
    }
}

extension ForeignTensors {
    /// The tensor that every model has, by whose name a state dict is found.
    fileprivate static let embedding = "src_embed.weight"

    fileprivate init(labml url: URL) throws {
        if (try? url.resourceValues(forKeys: [.isDirectoryKey]))?.isDirectory == true {
            try self.init(labmlFolder: url)
            return
        }
        let file = try RandomAccessFile(url)
        if file.size > 8, try file.bytes(8..<9) == Array("{".utf8) {
            let safetensors = try Safetensors(contentsOf: url)
            self.init(bytes: file.size)
            for (name, entry) in safetensors.entries {
                guard let format = Self.formats[entry.dtype] else { continue }
                tensors[name] = try ForeignTensor(
                    file, format, from: safetensors.dataStart + entry.range.lowerBound,
                    numbers: entry.range.count / format.size, shape: entry.shape)
            }
        } else {
            try self.init(pytorch: file, holding: Self.embedding)
        }
    }

    /// A folder with `info.json`, which names the files: since 2020 one of PyTorch's, before it a `.npy` for every tensor.
    private init(labmlFolder folder: URL) throws {
        let info = try RandomAccessFile(folder.appending(path: "info.json"))
        let json: JSON
        do { json = try JSON(parsing: try info.bytes(0..<min(info.size, Pickle.limit))) } catch let error as JSONError {
            throw Malformed("info.json: \(error)")
        }
        guard case .object(let modules) = json,
            let model = modules.first(where: { $0.name == "model" }) ?? modules.first
        else { throw Malformed("info.json names no model") }
        func open(_ name: String) throws -> RandomAccessFile {
            guard isPlain(path: name), !name.contains("/") else {
                throw Malformed("info.json names a file outside the folder")
            }
            return try RandomAccessFile(folder.appending(path: name))
        }
        switch model.value {
        case .string(let name): try self.init(pytorch: try open(name), holding: Self.embedding)
        case .object(let members):
            self.init()
            var seen: Set<String> = []
            for member in members {
                guard case .string(let name) = member.value, seen.insert(name).inserted else {
                    throw Malformed("info.json does not name a file of its own for \(member.name)")
                }
                let file = try open(name)
                do { tensors[member.name] = try ForeignTensor(numpy: file) } catch let error as Malformed {
                    throw Malformed("\(name) \(error.what)")
                }
                bytes += file.size
            }
        default: throw Malformed("info.json names no files")
        }
    }

    private static let formats: [Safetensors.DType: NumberFormat] = [
        .f64: .float64, .f32: .float32, .f16: .float16, .bf16: .bfloat16, .i64: .int64, .i32: .int32, .i16: .int16,
        .i8: .int8, .u8: .uint8, .bool: .bool,
    ]
}

/// The tensors of a labml model, under labml's own names.
private struct LabmlCheckpoint {
    private(set) var tensors: [String: ForeignTensor] = [:]
    private let bytes: Int

    init(_ file: ForeignTensors) throws(Malformed) {
        let embeddings = file.tensors.keys.filter { $0.hasSuffix(ForeignTensors.embedding) }.sorted()
        guard let name = embeddings.first else { throw Malformed("it has no tensor \(ForeignTensors.embedding)") }
        guard embeddings.count == 1 else {
            throw Malformed("it has several models: \(embeddings.joined(separator: ", "))")
        }
        let prefix = name.dropLast(ForeignTensors.embedding.count)
        for (name, tensor) in file.tensors where name.hasPrefix(prefix) {
            tensors[String(name.dropFirst(prefix.count))] = tensor
        }
        bytes = file.bytes
    }

    /// The sizes and the variant.
    func configuration() throws -> ModelConfiguration {
        func shape(_ name: String, _ axes: Int) throws -> [Int] {
            guard let shape = tensors[name]?.shape else { throw Malformed("the tensor \(name) is missing") }
            guard shape.count == axes else {
                throw Malformed("the tensor \(name) is \(shape); it must have \(axes) axes")
            }
            return shape
        }
        let numbers = tensors.keys.compactMap { name in
            name.firstMatch(of: /^transformer\.layers\.(\d+)\./).flatMap { Int($0.1) }
        }
        guard let last = numbers.max(), last < 1000 else { throw Malformed("it has no layers, or too many") }
        let embedding = try shape(ForeignTensors.embedding, 2)
        let positions = try shape("transformer.layers.0.attn.key_pos_embeddings", 3)
        let inner = try shape("transformer.layers.0.feed_forward.layer1.weight", 2)
        let configuration = ModelConfiguration(
            keyValue: tensors["transformer.key.linear.weight"] == nil ? .perLayer : .shared,
            memoryNorm: tensors["transformer.norm_memory.weight"] == nil ? .none : .layer, layers: last + 1,
            dModel: embedding[1], heads: positions[1], dFF: inner[0], vocabulary: embedding[0],
            positions: positions[0])
        try configuration.validate()
        return configuration
    }

    /// Throws where tensors are missing, unknown, of another shape, or so many views of the same numbers that a small file would
    /// make a large model.
    func check(_ table: ParameterTable) throws(Malformed) {
        let missing = table.parameters.map(\.name).filter { tensors[$0] == nil }
        let unknown = tensors.keys.filter { table[$0] == nil }.sorted()
        let misshaped = table.parameters.compactMap { parameter in
            tensors[parameter.name].flatMap { tensor in
                tensor.shape == parameter.shape
                    ? nil : "\(parameter.name) is \(tensor.shape) and must be \(parameter.shape)"
            }
        }
        let problems = [
            missing.isEmpty ? nil : "it lacks " + missing.joined(separator: ", "),
            unknown.isEmpty ? nil : "it has, which labml's model does not, " + unknown.joined(separator: ", "),
            misshaped.isEmpty ? nil : misshaped.joined(separator: ", "),
        ].compactMap(\.self)
        guard problems.isEmpty else { throw Malformed(problems.joined(separator: "; ")) }
        guard table.parameters.reduce(0, { $0 + tensors[$1.name]!.span }) <= bytes else {
            throw Malformed("its tensors are views of too few numbers")
        }
    }
}
