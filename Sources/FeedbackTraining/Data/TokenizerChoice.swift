import FeedbackTransformer
import Foundation

/// What turns a run's text into tokens: a tokenizer that is made of the text, or one that is there.
public enum TokenizerChoice: Equatable, Sendable {
    case kind(Tokenizer.Kind)
    /// The path of a `tokenizer.json`, or of the folder of a model or a run.
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

    /// The tokenizer in a file, or in the folder of a model or a run.
    static func read(_ path: String) throws -> Tokenizer {
        let url = URL(filePath: path)
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue else {
            return try Tokenizer(contentsOf: url)
        }
        let model = RunFolder.bestCheckpoint(of: url) ?? RunFolder.newestCheckpoint(of: url) ?? url
        return try Tokenizer(contentsOf: model.appending(path: "tokenizer.json"))
    }
}
