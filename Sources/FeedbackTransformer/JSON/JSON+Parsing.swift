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
