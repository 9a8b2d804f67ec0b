/// What is wrong with a text that should be JSON, and where.
struct JSONError: Error, Equatable, CustomStringConvertible {
    let what: String
    /// In bytes.
    let position: Int
    var description: String { "\(what) at byte \(position)" }
}

extension JSON {
    /// Reads one value, all of the text. Strict (RFC 8259); what a name's second value would mean is not guessed, and
    /// values nested deeper than 64 are refused.
    init(parsing bytes: [UInt8]) throws(JSONError) {
        var parser = JSONParser(bytes: bytes)
        self = try parser.value(depth: 0)
        parser.skipSpace()
        if parser.at < bytes.count { throw parser.error("unexpected text after the value") }
    }
}

private struct JSONParser {
    let bytes: [UInt8]
    var at = 0

    private var next: UInt8? { at < bytes.count ? bytes[at] : nil }

    func error(_ what: String) -> JSONError { JSONError(what: what, position: at) }

    mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { at += 1 }
    }

    mutating func value(depth: Int) throws(JSONError) -> JSON {
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

    private mutating func word(_ word: String, _ value: JSON) throws(JSONError) -> JSON {
        guard bytes[at...].starts(with: word.utf8) else { throw error("no value") }
        at += word.utf8.count
        return value
    }

    /// Whether another element follows: after a comma, until the closing bracket.
    private mutating func another(_ closing: UInt8, isFirst: Bool) throws(JSONError) -> Bool {
        skipSpace()
        if next == closing {
            at += 1
            return false
        }
        if isFirst { return true }
        guard next == UInt8(ascii: ",") else { throw error("a comma or a closing bracket is missing") }
        at += 1
        return true
    }

    private mutating func array(_ depth: Int) throws(JSONError) -> JSON {
        at += 1
        var elements: [JSON] = []
        while try another(UInt8(ascii: "]"), isFirst: elements.isEmpty) { elements.append(try value(depth: depth + 1)) }
        return .array(elements)
    }

    private mutating func object(_ depth: Int) throws(JSONError) -> JSON {
        at += 1
        var members: [JSON.Member] = []
        var names: Set<String> = []
        while try another(UInt8(ascii: "}"), isFirst: members.isEmpty) {
            skipSpace()
            guard next == UInt8(ascii: "\"") else { throw error("a name is missing") }
            let name = try string()
            guard names.insert(name).inserted else { throw error("the name \(name.debugDescription) is there twice") }
            skipSpace()
            guard next == UInt8(ascii: ":") else { throw error("a colon is missing") }
            at += 1
            members.append(JSON.Member(name: name, value: try value(depth: depth + 1)))
        }
        return .object(members)
    }

    // MARK: Numbers

    private mutating func number() throws(JSONError) -> JSON {
        let start = at
        var isWhole = true
        if next == UInt8(ascii: "-") { at += 1 }
        if next == UInt8(ascii: "0") { at += 1 } else { try digits() }
        if next == UInt8(ascii: ".") {
            isWhole = false
            at += 1
            try digits()
        }
        if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
            isWhole = false
            at += 1
            if next == UInt8(ascii: "-") || next == UInt8(ascii: "+") { at += 1 }
            try digits()
        }
        let text = String(decoding: bytes[start..<at], as: UTF8.self)
        if isWhole, let number = Int(text) { return .integer(number) }
        guard let number = Double(text), number.isFinite else { throw error("a number that is too large") }
        return .number(number)
    }

    private mutating func digits() throws(JSONError) {
        let start = at
        while let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { at += 1 }
        if at == start { throw error("a digit is missing") }
    }

    // MARK: Strings

    private mutating func string() throws(JSONError) -> String {
        at += 1
        var text: [UInt8] = []
        while let byte = next {
            switch byte {
            case UInt8(ascii: "\""):
                at += 1
                guard let string = String(validating: text, as: UTF8.self) else {
                    throw error("a string that is not UTF-8 ends")
                }
                return string
            case UInt8(ascii: "\\"):
                at += 1
                text += String(try escaped()).utf8
            case 0..<0x20: throw error("a control character in a string")
            default:
                text.append(byte)
                at += 1
            }
        }
        throw error("a string does not end")
    }

    private mutating func escaped() throws(JSONError) -> Unicode.Scalar {
        guard let byte = next else { throw error("a string does not end") }
        at += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{c}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"):
            let first = try hexadecimal()
            if let scalar = Unicode.Scalar(first) { return scalar }
            guard first < 0xdc00, bytes[at...].starts(with: #"\u"#.utf8) else {
                throw error("half of a surrogate pair")
            }
            at += 2
            let second = try hexadecimal()
            guard (0xdc00..<0xe000).contains(second) else { throw error("half of a surrogate pair") }
            return Unicode.Scalar(0x10000 + (first - 0xd800) << 10 + (second - 0xdc00))!
        default: throw error("an unknown escape")
        }
    }

    private mutating func hexadecimal() throws(JSONError) -> UInt32 {
        guard at + 4 <= bytes.count, bytes[at..<at + 4].allSatisfy({ Unicode.Scalar($0).properties.isASCIIHexDigit }),
            let value = UInt32(String(decoding: bytes[at..<at + 4], as: UTF8.self), radix: 16)
        else { throw error("an escape without four digits") }
        at += 4
        return value
    }
}
