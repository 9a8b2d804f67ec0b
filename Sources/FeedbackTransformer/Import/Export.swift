import Foundation

extension FeedbackModel {
    /// What other programs read.
    public enum ExportFormat: String, CaseIterable, Sendable {
        /// A state dict of labml's class, which `torch.load` reads.
        case labml
        /// The same names as safetensors.
        case safetensors
    }

    /// Writes the parameters to a new file: whole, or not at all. Throws where the file is there, or the format does not have
    /// such a model.
    public func export(as format: ExportFormat, to file: URL) throws {
        guard !FileManager.default.fileExists(atPath: file.path) else {
            throw FileError("\(file.path) is there already; choose another name, or remove it")
        }
        if format == .labml { try checkLabml() }
        let folder = file.deletingLastPathComponent()
        guard FileManager.default.fileExists(atPath: folder.path) else {
            throw FileError("cannot write \(file.path): there is no folder \(folder.path)")
        }
        let temporary = folder.appending(path: ".\(file.lastPathComponent).new-\(getpid())")
        defer { unlink(temporary.path) }
        switch format {
        case .labml: try writeFile(temporary) { try writePyTorch(to: $0) }
        case .safetensors: try Safetensors.write(parameters.tensors(), metadata: ["format": "pt"], to: temporary)
        }
        guard rename(temporary.path, file.path) == 0 else { throw FileError.system("cannot write \(file.path)") }
        try synchronizeFolder(folder)
    }

    private func checkLabml() throws {
        guard configuration.memory == .feedback else {
            throw FileError("labml has no \(configuration.memory.rawValue) model; use --format safetensors")
        }
        guard configuration.memoryNorm == .none else {
            throw FileError(
                "labml's model does not normalise memories; train with --memory-norm none, or use --format safetensors")
        }
    }

    /// The parameters as a pickled dictionary of tensors; the table's order numbers their storages.
    package var stateDictPickle: [UInt8] {
        var program = PickleWriter()
        program.stateDict(parameters.table.parameters.map { ($0.name, $0.shape) })
        return program.bytes
    }

    /// Every tensor is a storage of its own, in float32.
    private func writePyTorch(to handle: FileHandle) throws {
        var zip = ZipWriter(handle)
        try zip.add("model/data.pkl", stateDictPickle)
        try zip.add("model/byteorder", Array("little".utf8))
        for (key, tensor) in parameters.tensors().enumerated() {
            // Little-endian float32 is how every supported machine holds it.
            try zip.add("model/data/\(key)", tensor.values.withUnsafeBytes { [UInt8]($0) })
        }
        try zip.add("model/version", Array("3\n".utf8))
        try zip.finish()
    }
}

/// Writes what `torch.save` would of a state dict, in pickle's protocol 2.
private struct PickleWriter {
    private(set) var bytes: [UInt8] = []

    mutating func stateDict(_ tensors: [(name: String, shape: [Int])]) {
        bytes += [0x80, 2]
        emptyDictionary()
        // As Python does: a thousand at a time.
        for start in stride(from: 0, to: tensors.count, by: 1000) {
            bytes += "(".utf8
            for key in start..<min(start + 1000, tensors.count) {
                text(tensors[key].name)
                tensor(key, tensors[key].shape)
            }
            bytes += "u".utf8
        }
        bytes += ".".utf8
    }

    private mutating func tensor(_ key: Int, _ shape: [Int]) {
        name("torch._utils", "_rebuild_tensor_v2")
        bytes += "((".utf8
        text("storage")
        name("torch", "FloatStorage")
        text("\(key)")
        text("cpu")
        integer(shape.reduce(1, *))
        bytes += "tQ".utf8
        integer(0)
        tuple(shape)
        tuple(shape.indices.map { shape[($0 + 1)...].reduce(1, *) })
        bytes.append(0x89)
        emptyDictionary()
        bytes += "tR".utf8
    }

    private mutating func emptyDictionary() {
        name("collections", "OrderedDict")
        bytes += ")R".utf8
    }

    private mutating func tuple(_ integers: [Int]) {
        bytes += "(".utf8
        for integer in integers { self.integer(integer) }
        bytes += "t".utf8
    }

    private mutating func name(_ module: String, _ name: String) { bytes += "c\(module)\n\(name)\n".utf8 }

    private mutating func text(_ text: String) { bytes += "X".utf8 + little((text.utf8.count, 4)) + text.utf8 }

    private mutating func integer(_ number: Int) {
        bytes += number <= Int32.max ? "J".utf8 + little((number, 4)) : [0x8a, 8] + little((number, 8))
    }
}
