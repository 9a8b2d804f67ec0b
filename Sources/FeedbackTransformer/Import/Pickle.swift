import Foundation

// A pickle is a program for a machine with a stack. This one knows the instructions that tensors, dictionaries, lists and numbers are
// made of, and a list of names: it calls nothing, it only notes what would be called with what. Whatever else a pickle asks for is
// refused by name.

/// What a pickle holds, as a flat list of objects that refer to each other by number: none is deep, and a cycle does no harm.
struct Pickle {
    enum Value {
        case none
        case bool(Bool)
        case integer(Int)
        /// A whole number of more than 64 bits.
        case large
        case number(Double)
        case text(String)
        case name(Name)
        case object(Int)
    }

    struct Object {
        enum Kind: Equatable {
            case tuple, list
            /// Keys and values, by turns.
            case dictionary
            /// What the program outside is to look up: in PyTorch's files, a storage.
            case reference
            /// A call with these arguments.
            case call(Name)
        }
        let kind: Kind
        var elements: [Value]
    }

    /// The names that may be.
    enum Name: String {
        case orderedDictionary = "collections OrderedDict"
        case tensor = "torch._utils _rebuild_tensor_v2"
        case parameter = "torch._utils _rebuild_parameter"
        case float64 = "torch DoubleStorage"
        case float32 = "torch FloatStorage"
        case float16 = "torch HalfStorage"
        case bfloat16 = "torch BFloat16Storage"
        case int64 = "torch LongStorage"
        case int32 = "torch IntStorage"
        case int16 = "torch ShortStorage"
        case int8 = "torch CharStorage"
        case uint8 = "torch ByteStorage"
        case bool = "torch BoolStorage"
    }

    private(set) var objects: [Object] = []
    private(set) var root = Value.none
    /// Where in the bytes the pickle ends.
    private(set) var end = 0

    private let bytes: [UInt8]
    private var stack: [Value] = []
    private var marks: [Int] = []
    private var memo: [Int: Value] = [:]

    /// The longest that is read, in bytes; objects and memories are bounded besides.
    static let limit = 16 << 20
    private static let objectLimit = 1 << 20
    private static let stackLimit = 1 << 16

    init(_ bytes: [UInt8], from start: Int = 0) throws(Malformed) {
        self.bytes = bytes
        end = start
        while try step() {}
        guard let last = stack.popLast(), stack.isEmpty, marks.isEmpty else { throw damaged }
        root = last
        memo = [:]
    }

    /// The elements of an object of a kind; nil where the value is none.
    func elements(_ value: Value, _ kind: Object.Kind) -> [Value]? {
        guard case .object(let number) = value, objects[number].kind == kind else { return nil }
        return objects[number].elements
    }

    /// The members of a dictionary whose keys are texts; nil where the value is none.
    func members(_ value: Value) -> [(key: String, value: Value)]? {
        guard let elements = elements(value, .dictionary) else { return nil }
        return stride(from: 0, to: elements.count, by: 2).compactMap { index in
            if case .text(let key) = elements[index] { (key, elements[index + 1]) } else { nil }
        }
    }

    // MARK: Bytes

    private var damaged: Malformed { Malformed("its pickle is damaged at byte \(end)") }

    private mutating func take(_ count: Int) throws(Malformed) -> ArraySlice<UInt8> {
        guard count <= bytes.count - end else { throw Malformed("its pickle is cut off") }
        defer { end += count }
        return bytes[end..<end + count]
    }

    private mutating func number(_ count: Int) throws(Malformed) -> Int {
        try take(count).reversed().reduce(0) { $0 << 8 | Int($1) }
    }

    private mutating func text(_ count: Int) throws(Malformed) -> String {
        guard let text = String(validating: try take(count), as: UTF8.self) else { throw damaged }
        return text
    }

    private mutating func line() throws(Malformed) -> String {
        guard let length = bytes[end...].prefix(256).firstIndex(of: 0x0a).map({ $0 - end }) else { throw damaged }
        defer { end += 1 }
        return try text(length)
    }

    // MARK: Stack

    private mutating func push(_ value: Value) throws(Malformed) {
        guard stack.count < Self.stackLimit else { throw Malformed("its pickle needs too much memory") }
        stack.append(value)
    }

    private mutating func push(_ kind: Object.Kind, _ elements: [Value] = []) throws(Malformed) {
        guard objects.count < Self.objectLimit else { throw Malformed("its pickle has too many objects") }
        objects.append(Object(kind: kind, elements: elements))
        try push(.object(objects.count - 1))
    }

    /// The topmost values, above the last mark.
    private mutating func pop(_ count: Int) throws(Malformed) -> [Value] {
        guard stack.count - (marks.last ?? 0) >= count else { throw damaged }
        defer { stack.removeLast(count) }
        return Array(stack.suffix(count))
    }

    private mutating func popToMark() throws(Malformed) -> [Value] {
        guard let mark = marks.last else { throw damaged }
        let values = try pop(stack.count - mark)
        marks.removeLast()
        return values
    }

    /// Puts more into the list or dictionary on the stack.
    private mutating func extend(_ kind: Object.Kind, by values: [Value]) throws(Malformed) {
        guard stack.count > marks.last ?? 0, case .object(let number) = stack.last, objects[number].kind == kind,
            kind == .list || values.count % 2 == 0
        else { throw damaged }
        objects[number].elements += values
    }

    private mutating func memorize(_ number: Int) throws(Malformed) {
        guard stack.count > marks.last ?? 0, let value = stack.last else { throw damaged }
        guard memo.count < Self.objectLimit else { throw Malformed("its pickle needs too much memory") }
        memo[number] = value
    }

    private mutating func remember(_ number: Int) throws(Malformed) {
        guard let value = memo[number] else { throw damaged }
        try push(value)
    }

    // MARK: Instructions

    /// - Returns: whether there are more.
    private mutating func step() throws(Malformed) -> Bool {
        let instruction = try number(1)
        switch Unicode.Scalar(UInt8(instruction)) {
        case "\u{80}":
            let version = try number(1)
            guard version == 2 || version == 3 else {
                throw Malformed("its pickle has the protocol \(version); it must be 2, as torch.save has by default")
            }
        case ".": return false
        case "N": try push(.none)
        case "\u{88}": try push(.bool(true))
        case "\u{89}": try push(.bool(false))
        case "J": try push(.integer(Int(Int32(truncatingIfNeeded: try number(4)))))
        case "K": try push(.integer(try number(1)))
        case "M": try push(.integer(try number(2)))
        case "\u{8a}": try long(try number(1))
        case "G":
            let bits = try take(8).reduce(0) { $0 << 8 | UInt64($1) }
            try push(.number(Double(bitPattern: bits)))
        case "X": try push(.text(try text(try number(4))))
        case "U": try push(.text(try text(try number(1))))
        case "(":
            guard marks.count < Self.stackLimit else { throw Malformed("its pickle is nested too deep") }
            marks.append(stack.count)
        case ")": try push(.tuple)
        case "\u{85}": try push(.tuple, try pop(1))
        case "\u{86}": try push(.tuple, try pop(2))
        case "\u{87}": try push(.tuple, try pop(3))
        case "t": try push(.tuple, try popToMark())
        case "]": try push(.list)
        case "}": try push(.dictionary)
        case "a": try extend(.list, by: try pop(1))
        case "e": try extend(.list, by: try popToMark())
        case "s": try extend(.dictionary, by: try pop(2))
        case "u": try extend(.dictionary, by: try popToMark())
        case "q": try memorize(try number(1))
        case "r": try memorize(try number(4))
        case "h": try remember(try number(1))
        case "j": try remember(try number(4))
        case "c": try push(.name(try name()))
        case "Q":
            guard let elements = elements(try pop(1)[0], .tuple) else { throw damaged }
            try push(.reference, elements)
        case "R": try call()
        case "b":  // a dictionary's attributes, which PyTorch has no need of either
            _ = try pop(1)
            guard case .object(let number) = stack.last, objects[number].kind == .dictionary else { throw damaged }
        default:
            throw Malformed(
                "its pickle has the instruction \(instruction) at byte \(end - 1), which tensors have no need of")
        }
        return true
    }

    private mutating func long(_ count: Int) throws(Malformed) {
        let bytes = try take(count)
        guard count <= 8 else { return try push(.large) }
        let isNegative = bytes.last.map { $0 >= 0x80 } ?? false
        try push(.integer(bytes.reversed().reduce(isNegative ? -1 : 0) { $0 << 8 | Int($1) }))
    }

    private mutating func name() throws(Malformed) -> Name {
        let (module, name) = (try line(), try line())
        guard let known = Name(rawValue: "\(module) \(name)") else {
            throw Malformed(
                "it asks for \(module).\(name), which tensors have no need of; save the model's state_dict() alone")
        }
        return known
    }

    private mutating func call() throws(Malformed) {
        let operands = try pop(2)
        guard case .name(let name) = operands[0], let arguments = elements(operands[1], .tuple) else { throw damaged }
        switch name {
        case .orderedDictionary where arguments.isEmpty: try push(.dictionary)
        case .tensor, .parameter: try push(.call(name), arguments)
        default: throw damaged
        }
    }
}
