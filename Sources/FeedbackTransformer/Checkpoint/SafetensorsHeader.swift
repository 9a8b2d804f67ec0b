// A header is read piece by piece: names may not repeat, fields may not be unknown. Work and memory are bounded by its
// length.

extension SafetensorsError: JSONFailure {
    init(_ problem: JSONProblem, at position: Int) {
        let what =
            switch problem {
            case .lacks(let character): "its header lacks a \(character) at byte \(position)"
            case .lacksDigit: "its header has no usable whole number at byte \(position)"
            case .control: "its header has a control character at byte \(position)"
            case .endlessString: "its header ends within a string"
            case .escape(_, let start): "its header has an unusable escape in the string at byte \(start)"
            case .notUTF8(let start): "its header has a string at byte \(start) that is not UTF-8"
            case .more: "something follows the header's object, at byte \(position)"
            }
        self = .malformed(what)
    }
}

extension JSONReader<SafetensorsError> {
    /// All of a header, which begins with {.
    mutating func header() throws(SafetensorsError) -> ([String: Safetensors.Entry], [String: String]) {
        var entries: [String: Safetensors.Entry] = [:]
        var metadata: [String: String]?
        try list("{", "}") { reader throws(SafetensorsError) in
            let name = try reader.name()
            if name == "__metadata__" {
                guard metadata == nil else { throw .malformed("__metadata__ appears twice") }
                metadata = try reader.metadata()
            } else {
                guard entries.updateValue(try reader.entry(of: name), forKey: name) == nil else {
                    throw .malformed("the tensor \(name) appears twice")
                }
            }
        }
        try end()
        return (entries, metadata ?? [:])
    }

    private mutating func name() throws(SafetensorsError) -> String {
        let name = try string()
        try expect(":")
        return name
    }

    private mutating func metadata() throws(SafetensorsError) -> [String: String] {
        var pairs: [String: String] = [:]
        try list("{", "}") { reader throws(SafetensorsError) in
            let name = try reader.name()
            guard pairs.updateValue(try reader.string(), forKey: name) == nil else {
                throw .malformed("the metadata's \(name) appears twice")
            }
        }
        return pairs
    }

    private mutating func entry(of name: String) throws(SafetensorsError) -> Safetensors.Entry {
        var dtype: Safetensors.DType?
        var shape: [Int]?
        var offsets: [Int]?
        try list("{", "}") { reader throws(SafetensorsError) in
            let field = try reader.name()
            switch field {
            case "dtype" where dtype == nil:
                let text = try reader.string()
                dtype = Safetensors.DType(rawValue: text)
                if dtype == nil { throw .malformed("the tensor \(name) has the unknown type \(text)") }
            case "shape" where shape == nil: shape = try reader.integers()
            case "data_offsets" where offsets == nil: offsets = try reader.integers()
            default: throw .malformed("the tensor \(name) has an unknown or repeated field \(field)")
            }
        }
        guard let dtype, let shape, let offsets else {
            throw .malformed("the tensor \(name) lacks its dtype, shape or data_offsets")
        }
        guard offsets.count == 2, offsets[0] <= offsets[1] else {
            throw .malformed("the tensor \(name) has the data_offsets \(offsets)")
        }
        var size = dtype.size
        for length in shape {
            let (product, overflow) = size.multipliedReportingOverflow(by: length)
            if overflow { throw .malformed("the tensor \(name) has the impossible shape \(shape)") }
            size = product
        }
        guard offsets[1] - offsets[0] == size else {
            throw .malformed(
                "the tensor \(name) takes \(offsets[1] - offsets[0]) bytes; \(dtype.rawValue) \(shape) takes \(size)")
        }
        return Safetensors.Entry(dtype: dtype, shape: shape, range: offsets[0]..<offsets[1])
    }

    private mutating func integers() throws(SafetensorsError) -> [Int] {
        var values: [Int] = []
        try list("[", "]") { reader throws(SafetensorsError) in values.append(try reader.integer()) }
        return values
    }

    /// A whole number as JSON has it that is not negative.
    private mutating func integer() throws(SafetensorsError) -> Int {
        skipSpace()
        let start = at
        try digits()
        let text = text(from: start)
        guard text == "0" || !text.hasPrefix("0"), let value = Int(text) else {
            throw SafetensorsError(.lacksDigit, at: start)
        }
        return value
    }
}
