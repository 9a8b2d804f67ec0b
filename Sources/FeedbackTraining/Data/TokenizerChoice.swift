import FeedbackTransformer
import Foundation

/// What turns a run's text into tokens: a tokenizer that is made of the text, or one that is there.
public enum TokenizerChoice: Equatable, Sendable {
    case kind(Tokenizer.Kind)
    /// The path of a `tokenizer.json`, or of a folder that has one.
    case file(String)

    public static let characters = Self.kind(.characters)
    public static let bytes = Self.kind(.bytes)
    public static let words = Self.kind(.words)
    public static let symbols = Self.kind(.symbols)
    public static let bpe = Self.kind(.bpe)

    static let choices = Tokenizer.Kind.allCases.map(\.rawValue).joined(separator: ", ")

    /// What somebody has typed: a kind, or a path, which has a slash or a dot in it; nil where it is neither.
    init?(_ text: String) {
        if let kind = Tokenizer.Kind(rawValue: text) {
            self = .kind(kind)
        } else if text.contains("/") || text.contains(".") {
            self = .file(text)
        } else {
            return nil
        }
    }

    var text: String {
        switch self {
        case .kind(let kind): kind.rawValue
        case .file(let path): path
        }
    }

    /// The tokenizer in a file, or in a folder that has one.
    static func read(_ path: String) throws -> Tokenizer {
        var isFolder: ObjCBool = false
        _ = FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
        let file = URL(filePath: path)
        return try Tokenizer(contentsOf: isFolder.boolValue ? file.appending(path: "tokenizer.json") : file)
    }
}
