/// What is wrong with a JSON file, in a few words.
package func explain(_ error: any Error) -> String {
    func place(_ context: DecodingError.Context, _ key: (any CodingKey)? = nil) -> String? {
        let path = (context.codingPath + [key].compactMap(\.self)).map {
            $0.intValue.map(String.init) ?? $0.stringValue
        }
        return path.isEmpty ? nil : path.joined(separator: ".")
    }
    return switch error {
    case DecodingError.keyNotFound(let key, let context): "\(place(context, key)!) is missing"
    case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context):
        place(context).map { "\($0) has the wrong type" } ?? "it must be one JSON object"
    case DecodingError.dataCorrupted(let context):
        place(context).map { "\($0) has an unknown value" } ?? "it is not JSON"
    default: "\(error)"
    }
}

/// A message as one line: what it repeats of a file may have many, control characters, and no end.
package func oneLine(_ message: String) -> String {
    let (scalars, most) = (message.unicodeScalars, 1000)
    let kept =
        scalars.count <= most
        ? Array(scalars) : scalars.prefix(most / 2) + Array(" … ".unicodeScalars) + scalars.suffix(most / 2)
    return String(String.UnicodeScalarView(kept.map { $0.properties.generalCategory == .control ? " " : $0 }))
}
