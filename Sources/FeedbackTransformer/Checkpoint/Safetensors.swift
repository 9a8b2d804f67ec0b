import Foundation

// The safetensors format, read strictly: a file comes from outside and is hostile until checked.
//
//   u64 N, little-endian, at most 100,000,000 | N bytes of JSON, beginning with "{" | data
//
// The JSON is one object: tensor name → {"dtype", "shape", "data_offsets": [begin, end]}, offsets from the start of the
// data, and "__metadata__" → {string: string}. Sorted by offset the tensors fill the data without holes or overlaps.

/// A file that is not a safetensors file, or not the one that is needed.
public enum SafetensorsError: Error, Equatable, CustomStringConvertible {
    /// The bytes break the format; what and where.
    case malformed(String)
    /// The file is well-formed but has no such tensor.
    case missing(String)
    /// A tensor has another type or shape than needed.
    case mismatch(name: String, found: String, needed: String)

    public var description: String {
        switch self {
        case .malformed(let what): oneLine("not a valid safetensors file: \(what)")
        case .missing(let name): "the tensor \(name) is missing"
        case .mismatch(let name, let found, let needed): "the tensor \(name) is \(found); it must be \(needed)"
        }
    }
}

/// A parsed file: what is in it, checked, and its bytes.
public struct Safetensors: Sendable {
    public enum DType: String, CaseIterable, Sendable {
        case f64 = "F64"
        case f32 = "F32"
        case f16 = "F16"
        case bf16 = "BF16"
        case i64 = "I64"
        case i32 = "I32"
        case i16 = "I16"
        case i8 = "I8"
        case u64 = "U64"
        case u32 = "U32"
        case u16 = "U16"
        case u8 = "U8"
        case bool = "BOOL"

        public var size: Int {
            switch self {
            case .f64, .i64, .u64: 8
            case .f32, .i32, .u32: 4
            case .f16, .bf16, .i16, .u16: 2
            case .i8, .u8, .bool: 1
            }
        }
    }

    public struct Entry: Equatable, Sendable {
        public let dtype: DType
        public let shape: [Int]
        /// In bytes, from the start of the data.
        public let range: Range<Int>
    }

    public let metadata: [String: String]
    public let entries: [String: Entry]
    private let data: Data
    /// Where in the file the data begin.
    let dataStart: Int

    static let headerLimit = 100_000_000

    public init(contentsOf file: URL) throws {
        do {
            // What the header says is checked before as much memory is taken as the file is long.
            try self.init(data: try readRegularFile(file, afterChecking: Self.check))
        } catch let error as SafetensorsError {
            throw FileError("\(file.path): \(error)")
        }
    }

    /// Throws where no safetensors file of so many bytes begins like that.
    private static func check(_ start: Data, _ size: Int) throws(SafetensorsError) {
        guard size >= 8 else { throw .malformed("it has \(size) bytes; the header's length alone takes 8") }
        let length = start.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard length <= headerLimit else {
            throw .malformed("its header claims \(length) bytes; \(headerLimit) is the limit")
        }
        guard Int(length) <= size - 8 else {
            throw .malformed("it is cut off: the header takes \(length) bytes, the file has \(size)")
        }
        guard length > 0, start.dropFirst(8).first == UInt8(ascii: "{") else {
            throw .malformed("its header does not begin with {")
        }
    }

    public init(data: Data) throws(SafetensorsError) {
        let data = data.startIndex == 0 ? data : Data(data)
        try Self.check(data.prefix(9), data.count)
        let length = data.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        var reader = JSONReader<SafetensorsError>([UInt8](data[8..<8 + Int(length)]))
        (entries, metadata) = try reader.header()
        self.data = data
        dataStart = 8 + Int(length)

        var end = 0
        // A tensor without values begins and ends where another begins.
        for (name, entry) in entries.sorted(by: {
            ($0.value.range.lowerBound, $0.value.range.upperBound, $0.key)
                < ($1.value.range.lowerBound, $1.value.range.upperBound, $1.key)
        }) {
            guard entry.range.lowerBound == end else {
                throw .malformed(
                    "the tensor \(name) begins at byte \(entry.range.lowerBound) of the data; "
                        + "the one before ends at \(end)")
            }
            end = entry.range.upperBound
        }
        guard end == data.count - dataStart else {
            throw .malformed("its tensors take \(end) bytes; \(data.count - dataStart) follow the header")
        }
    }

    /// The entry of a tensor that must have this type, and this shape where one is given.
    private func entry(_ name: String, _ dtype: DType, shape: [Int]?) throws(SafetensorsError) -> Entry {
        guard let entry = entries[name] else { throw .missing(name) }
        guard entry.dtype == dtype && (shape == nil || shape == entry.shape) else {
            throw .mismatch(
                name: name, found: "\(entry.dtype.rawValue) \(entry.shape)",
                needed: "\(dtype.rawValue) \(shape.map { "\($0)" } ?? "of any shape")")
        }
        return entry
    }

    /// Throws where there is no float32 tensor of that name and shape.
    package func check(_ name: String, shape: [Int]) throws(SafetensorsError) {
        _ = try entry(name, .f32, shape: shape)
    }

    private func values<Value>(_ entry: Entry, as type: Value.Type) -> [Value] {
        let bytes = dataStart + entry.range.lowerBound..<dataStart + entry.range.upperBound
        return [Value](unsafeUninitializedCapacity: bytes.count / MemoryLayout<Value>.size) { buffer, count in
            count = data.copyBytes(to: UnsafeMutableRawBufferPointer(buffer), from: bytes) / MemoryLayout<Value>.size
        }
    }

    /// The values of a float32 tensor in row-major order; of that shape, where one is given.
    public func floats(_ name: String, shape: [Int]? = nil) throws(SafetensorsError) -> [Float] {
        values(try entry(name, .f32, shape: shape), as: UInt32.self).map { Float(bitPattern: UInt32(littleEndian: $0)) }
    }

    /// The values of an int32 tensor in row-major order; of that shape, where one is given.
    public func integers(_ name: String, shape: [Int]? = nil) throws(SafetensorsError) -> [Int32] {
        values(try entry(name, .i32, shape: shape), as: Int32.self).map(Int32.init(littleEndian:))
    }

    // MARK: Writing

    /// One float32 tensor to write.
    public struct Tensor {
        public let name: String
        public let shape: [Int]
        public let values: ArraySlice<Float>

        public init(name: String, shape: [Int], values: ArraySlice<Float>) {
            precondition(values.count == shape.reduce(1, *), "\(name) has \(values.count) values")
            self.name = name
            self.shape = shape
            self.values = values
        }
    }

    /// Writes tensors, by name, to a new file, and waits until they are on the disk.
    public static func write(_ tensors: [Tensor], metadata: [String: String] = [:], to file: URL) throws {
        let tensors = tensors.sorted { $0.name < $1.name }
        var members: [JSON.Member] = []
        if !metadata.isEmpty {
            let pairs = metadata.sorted { $0.key < $1.key }.map { JSON.Member(name: $0.key, value: .string($0.value)) }
            members.append(JSON.Member(name: "__metadata__", value: .object(pairs)))
        }
        var offset = 0
        for tensor in tensors {
            let end = offset + tensor.values.count * DType.f32.size
            let entry: JSON = [
                "dtype": .string(DType.f32.rawValue), "shape": .array(tensor.shape.map(JSON.integer)),
                "data_offsets": [.integer(offset), .integer(end)],
            ]
            members.append(JSON.Member(name: tensor.name, value: entry))
            offset = end
        }
        var header = JSON.object(members).bytes
        header += Array(repeating: UInt8(ascii: " "), count: (8 - header.count % 8) % 8)

        try writeFile(file) { handle in
            try handle.write(contentsOf: withUnsafeBytes(of: UInt64(header.count).littleEndian) { Data($0) })
            try handle.write(contentsOf: Data(header))
            // Little-endian float32 is how every supported machine holds it.
            for tensor in tensors {
                try tensor.values.withUnsafeBytes { bytes in
                    guard let start = bytes.baseAddress else { return }
                    try handle.write(
                        contentsOf: Data(
                            bytesNoCopy: UnsafeMutableRawPointer(mutating: start), count: bytes.count,
                            deallocator: .none))
                }
            }
        }
    }
}
