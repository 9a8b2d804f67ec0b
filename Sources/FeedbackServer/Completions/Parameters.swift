import FeedbackTransformer

/// Reads the parameters of a request's body, strictly: what has the wrong type or is out of range is named. A parameter that
/// is null counts as left out.
struct Parameters {
    private let values: [String: JSON]

    /// Throws where the body is no object, or has parameters that are neither in `known` nor `ignored`.
    init(_ body: JSON, known: Set<String>, ignored: Set<String> = []) throws(APIError) {
        guard case .object(let members) = body else {
            throw .invalid(nil, "the body must be a JSON object, not \(body.kind)")
        }
        for member in members where !known.contains(member.name) && !ignored.contains(member.name) {
            throw .invalid(member.name, "unknown parameter \(member.name)")
        }
        values = Dictionary(uniqueKeysWithValues: members.map { ($0.name, $0.value) })
    }

    subscript(name: String) -> JSON? {
        guard let value = values[name], value != .null else { return nil }
        return value
    }

    func require(_ name: String) throws(APIError) -> JSON {
        guard let value = self[name] else { throw .invalid(name, "\(name) is missing") }
        return value
    }

    func string(_ name: String) throws(APIError) -> String? {
        guard let value = self[name] else { return nil }
        guard case .string(let text) = value else { throw wrong(name, value, "a string") }
        return text
    }

    func bool(_ name: String) throws(APIError) -> Bool? {
        guard let value = self[name] else { return nil }
        guard case .bool(let flag) = value else { throw wrong(name, value, "true or false") }
        return flag
    }

    func integer(_ name: String, in range: ClosedRange<Int>) throws(APIError) -> Int? {
        guard let value = self[name] else { return nil }
        let number: Int
        switch value {
        case .integer(let whole): number = whole
        // Some clients have no other numbers.
        case .number(let other) where other == other.rounded() && abs(other) < 0x1p53: number = Int(other)
        case .number:
            throw .invalid(name, "\(name) must be a whole number from \(range.lowerBound) to \(range.upperBound)")
        default: throw wrong(name, value, "a whole number")
        }
        guard range.contains(number) else {
            throw .invalid(
                name, "\(name) is \(number); it must be between \(range.lowerBound) and \(range.upperBound)")
        }
        return number
    }

    func number(_ name: String, in range: ClosedRange<Double>) throws(APIError) -> Double? {
        guard let value = self[name] else { return nil }
        let number: Double
        switch value {
        case .integer(let whole): number = Double(whole)
        case .number(let other): number = other
        default: throw wrong(name, value, "a number")
        }
        guard range.contains(number) else {
            throw .invalid(
                name, "\(name) is \(number); it must be between \(range.lowerBound) and \(range.upperBound)")
        }
        return number
    }

    func wrong(_ name: String, _ value: JSON, _ wanted: String) -> APIError {
        .invalid(name, "\(name) must be \(wanted), not \(value.kind)")
    }
}
