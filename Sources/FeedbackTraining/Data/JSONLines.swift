import FeedbackTransformer
import Foundation

/// The texts of a file whose every line is a JSON object that has one, each with a new line after it.
struct JSONLines {
    private let path: String
    private let field: String
    /// Of a line that has not ended.
    private var rest: [UInt8] = []
    private var line = 0

    init(_ path: String, field: String) {
        self.path = path
        self.field = field
    }

    /// The texts of the lines that some bytes end.
    mutating func text(of bytes: ArraySlice<UInt8>, isEnd: Bool) throws(CorpusError) -> [UInt8] {
        var (text, bytes): ([UInt8], ArraySlice<UInt8>) = ([], bytes)
        while let end = bytes.firstIndex(of: UInt8(ascii: "\n")) {
            rest += bytes[..<end]
            bytes = bytes[(end + 1)...]
            try add(to: &text)
        }
        rest += bytes
        if isEnd { try add(to: &text) }
        return text
    }

    private mutating func add(to text: inout [UInt8]) throws(CorpusError) {
        line += 1
        defer { rest.removeAll(keepingCapacity: true) }
        if rest.allSatisfy({ " \t\r".utf8.contains($0) }) { return }
        let object: JSON
        do { object = try JSON(parsing: rest) } catch {
            throw CorpusError(oneLine("\(path) is not JSON in line \(line): \(error)"))
        }
        guard let found = object[field]?.text else {
            var names = ""
            if case .object(let members) = object {
                names = members.filter { $0.value.text != nil }.map(\.name).joined(separator: ", ")
            }
            throw CorpusError(
                oneLine(
                    "\(path) has no text \"\(field)\" in line \(line)"
                        + (names.isEmpty ? "; every line must be an object that has one" : "; give --field: \(names)")))
        }
        text += found.utf8
        text.append(UInt8(ascii: "\n"))
    }
}
