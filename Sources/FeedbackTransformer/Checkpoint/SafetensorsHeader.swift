import Foundation

/// Parses a safetensors header, and nothing else that JSON allows: names may not repeat, fields may not be unknown.
/// Its work and its memory are bounded by the header's length.
struct HeaderParser {
    private let bytes: [UInt8]
    private var at = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    mutating func parse() throws(SafetensorsError) -> ([String: Safetensors.Entry], [String: String]) {
        var entries: [String: Safetensors.Entry] = [:]
        var metadata: [String: String]?
        guard bytes.first == UInt8(ascii: "{") else { throw .malformed("its header does not begin with {") }
        try object { parser, name throws(SafetensorsError) in
            if name == "__metadata__" {
                guard metadata == nil else { throw .malformed("__metadata__ appears twice") }
                var pairs: [String: String] = [:]
                try parser.object { parser, key throws(SafetensorsError) in
                    guard pairs.updateValue(try parser.string(), forKey: key) == nil else {
                        throw .malformed("the metadata's \(key) appears twice")
                    }
                }
                metadata = pairs
            } else {
                guard entries.updateValue(try parser.entry(of: name), forKey: name) == nil else {
                    throw .malformed("the tensor \(name) appears twice")
                }
            }
        }
        skipSpace()
        guard at == bytes.count else { throw .malformed("something follows the header's object, at byte \(at)") }
        return (entries, metadata ?? [:])
    }

    private mutating func entry(of name: String) throws(SafetensorsError) -> Safetensors.Entry {
        var dtype: Safetensors.DType?
        var shape: [Int]?
        var offsets: [Int]?
        try object { parser, field throws(SafetensorsError) in
            switch field {
            case "dtype" where dtype == nil:
                let text = try parser.string()
                dtype = Safetensors.DType(rawValue: text)
                if dtype == nil { throw .malformed("the tensor \(name) has the unknown type \(text)") }
            case "shape" where shape == nil: shape = try parser.integers()
            case "data_offsets" where offsets == nil: offsets = try parser.integers()
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

    // MARK: JSON

    private mutating func skipSpace() {
        while at < bytes.count, [0x20, 0x09, 0x0a, 0x0d].contains(bytes[at]) { at += 1 }
    }

    private mutating func takes(_ character: Character) -> Bool {
        skipSpace()
        guard at < bytes.count, bytes[at] == character.asciiValue else { return false }
        at += 1
        return true
    }

    private mutating func expect(_ character: Character) throws(SafetensorsError) {
        if !takes(character) { throw .malformed("its header lacks a \(character) at byte \(at)") }
    }

    /// An object; `member` parses the value of each name.
    private mutating func object(
        _ member: (inout HeaderParser, String) throws(SafetensorsError) -> Void
    ) throws(SafetensorsError) {
        try expect("{")
        if takes("}") { return }
        repeat {
            let name = try string()
            try expect(":")
            try member(&self, name)
        } while takes(",")
        try expect("}")
    }

    private mutating func integers() throws(SafetensorsError) -> [Int] {
        try expect("[")
        if takes("]") { return [] }
        var values: [Int] = []
        repeat { values.append(try integer()) } while takes(",")
        try expect("]")
        return values
    }

    private mutating func integer() throws(SafetensorsError) -> Int {
        skipSpace()
        let start = at
        while at < bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[at]) { at += 1 }
        let digits = bytes[start..<at]
        guard digits.count == 1 || digits.first != UInt8(ascii: "0"),
            let value = Int(String(decoding: digits, as: UTF8.self))
        else { throw .malformed("its header has no usable whole number at byte \(start)") }
        return value
    }

    private mutating func string() throws(SafetensorsError) -> String {
        try expect("\"")
        let start = at
        while at < bytes.count, bytes[at] != UInt8(ascii: "\"") {
            if bytes[at] < 0x20 { throw .malformed("its header has a control character at byte \(at)") }
            at += bytes[at] == UInt8(ascii: "\\") ? 2 : 1
        }
        guard at < bytes.count else { throw .malformed("its header ends within a string") }
        let text = bytes[start..<at]
        at += 1
        if !text.contains(UInt8(ascii: "\\")) {
            guard let string = String(validating: text, as: UTF8.self) else {
                throw .malformed("its header has a string at byte \(start) that is not UTF-8")
            }
            return string
        }
        // Escapes are rare: leave them to the library.
        let quoted = Data([UInt8(ascii: "\"")] + text + [UInt8(ascii: "\"")])
        guard let string = try? JSONDecoder().decode(String.self, from: quoted) else {
            throw .malformed("its header has an unusable escape in the string at byte \(start)")
        }
        return string
    }
}
