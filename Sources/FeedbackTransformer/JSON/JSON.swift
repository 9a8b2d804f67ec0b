/// A JSON value. Objects keep the order of their members, and whole numbers are kept apart from others: a request's
/// parameters are checked strictly.
package enum JSON: Equatable, Sendable {
    case null
    case bool(Bool)
    case integer(Int)
    case number(Double)
    case string(String)
    case array([JSON])
    case object([Member])

    package struct Member: Equatable, Sendable {
        package let name: String
        package let value: JSON

        package init(name: String, value: JSON) {
            self.name = name
            self.value = value
        }
    }

    /// What kind of value it is, for messages.
    package var kind: String {
        switch self {
        case .null: "null"
        case .bool: "a boolean"
        case .integer: "a whole number"
        case .number: "a number"
        case .string: "a string"
        case .array: "an array"
        case .object: "an object"
        }
    }

    /// A member of an object, the elements of an array, the text of a string; nil for any other value.
    package subscript(name: String) -> JSON? {
        if case .object(let members) = self { members.first { $0.name == name }?.value } else { nil }
    }
    package var elements: [JSON]? { if case .array(let elements) = self { elements } else { nil } }
    package var text: String? { if case .string(let text) = self { text } else { nil } }

    /// `value`, or null where there is none.
    package init(_ value: Double?) { self = value.map(JSON.number) ?? .null }
    package init(_ value: String?) { self = value.map(JSON.string) ?? .null }
}

extension JSON: ExpressibleByDictionaryLiteral, ExpressibleByArrayLiteral, ExpressibleByStringLiteral,
    ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral, ExpressibleByNilLiteral
{
    package init(dictionaryLiteral members: (String, JSON)...) {
        self = .object(members.map { Member(name: $0, value: $1) })
    }
    package init(arrayLiteral elements: JSON...) { self = .array(elements) }
    package init(stringLiteral text: String) { self = .string(text) }
    package init(integerLiteral number: Int) { self = .integer(number) }
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    package init(nilLiteral: ()) { self = .null }
}

// MARK: Writing

extension JSON {
    /// The value as UTF-8, without white space. A number that JSON does not have becomes null.
    package var bytes: [UInt8] {
        var bytes: [UInt8] = []
        write(into: &bytes)
        return bytes
    }

    package func write(into bytes: inout [UInt8]) {
        switch self {
        case .null: bytes += "null".utf8
        case .bool(let value): bytes += (value ? "true" : "false").utf8
        case .integer(let number): bytes += String(number).utf8
        case .number(let number): bytes += (number.isFinite ? "\(number)" : "null").utf8
        case .string(let text): Self.write(text, into: &bytes)
        case .array(let elements):
            bytes.append(UInt8(ascii: "["))
            for (index, element) in elements.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                element.write(into: &bytes)
            }
            bytes.append(UInt8(ascii: "]"))
        case .object(let members):
            bytes.append(UInt8(ascii: "{"))
            for (index, member) in members.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                Self.write(member.name, into: &bytes)
                bytes.append(UInt8(ascii: ":"))
                member.value.write(into: &bytes)
            }
            bytes.append(UInt8(ascii: "}"))
        }
    }

    private static func write(_ text: String, into bytes: inout [UInt8]) {
        bytes.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""): bytes += #"\""#.utf8
            case UInt8(ascii: "\\"): bytes += #"\\"#.utf8
            case UInt8(ascii: "\n"): bytes += #"\n"#.utf8
            case UInt8(ascii: "\r"): bytes += #"\r"#.utf8
            case UInt8(ascii: "\t"): bytes += #"\t"#.utf8
            case 0..<0x20: bytes += ((byte < 0x10 ? #"\u000"# : #"\u001"#) + String(byte & 15, radix: 16)).utf8
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }
}

/// What is wrong with a text that should be JSON, and where.
package struct JSONError: JSONFailure, Equatable, CustomStringConvertible {
    package let what: String
    /// In bytes.
    package let position: Int
    package var description: String { "\(what) at byte \(position)" }

    package init(what: String, position: Int) {
        self.what = what
        self.position = position
    }

    init(_ problem: JSONProblem, at position: Int) {
        let what =
            switch problem {
            case .lacks("\""): "a name is missing"
            case .lacks(":"): "a colon is missing"
            case .lacks: "a comma or a closing bracket is missing"
            case .lacksDigit: "a digit is missing"
            case .control: "a control character in a string"
            case .endlessString: "a string does not end"
            case .escape(let what, _): what
            case .notUTF8: "a string that is not UTF-8 ends"
            case .more: "unexpected text after the value"
            }
        self.init(what: what, position: position)
    }
}

extension JSON {
    /// Reads one value, all of the text. Strict (RFC 8259); what a name's second value would mean is not guessed, and
    /// values nested deeper than 64 are refused.
    package init(parsing bytes: [UInt8]) throws(JSONError) {
        var reader = JSONReader<JSONError>(bytes)
        self = try reader.value(depth: 0)
        try reader.end()
    }
}

extension JSONReader<JSONError> {
    private func error(_ what: String) -> JSONError { JSONError(what: what, position: at) }

    fileprivate mutating func value(depth: Int) throws(JSONError) -> JSON {
        guard depth <= 64 else { throw error("values nested deeper than 64") }
        skipSpace()
        switch next {
        case UInt8(ascii: "{"): return try object(depth)
        case UInt8(ascii: "["): return try array(depth)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case .some(UInt8(ascii: "-")), .some(UInt8(ascii: "0")...UInt8(ascii: "9")): return try number()
        case nil: throw error("the text ends where a value is missing")
        default: throw error("no value")
        }
    }

    private mutating func word(_ word: StaticString, _ value: JSON) throws(JSONError) -> JSON {
        guard takes(word: word) else { throw error("no value") }
        return value
    }

    private mutating func array(_ depth: Int) throws(JSONError) -> JSON {
        var elements: [JSON] = []
        try list("[", "]") { reader throws(JSONError) in elements.append(try reader.value(depth: depth + 1)) }
        return .array(elements)
    }

    private mutating func object(_ depth: Int) throws(JSONError) -> JSON {
        var members: [JSON.Member] = []
        var names: Set<String> = []
        try list("{", "}") { reader throws(JSONError) in
            let name = try reader.string()
            guard names.insert(name).inserted else {
                throw reader.error("the name \(name.debugDescription) is there twice")
            }
            try reader.expect(":")
            members.append(JSON.Member(name: name, value: try reader.value(depth: depth + 1)))
        }
        return .object(members)
    }

    private mutating func number() throws(JSONError) -> JSON {
        let start = at
        var isWhole = true
        _ = takes("-")
        if !takes("0") { try digits() }
        if takes(".") {
            isWhole = false
            try digits()
        }
        if takes("e") || takes("E") {
            isWhole = false
            if !takes("-") { _ = takes("+") }
            try digits()
        }
        let text = text(from: start)
        if isWhole, let number = Int(text) { return .integer(number) }
        guard let number = Double(text), number.isFinite else { throw error("a number that is too large") }
        return .number(number)
    }
}
