import ArgumentParser
import FeedbackRuns
import FeedbackTraining
import FeedbackTransformer
import Foundation

// What a shell offers when somebody presses Tab: `feedback --generate-completion-script`.

extension CompletionKind {
    /// Runs, by the names that the history knows, and folders.
    static let runs = custom { _, _, typed in
        let url = RunStore.defaultURL()
        let runs = FileManager.default.fileExists(atPath: url.path) ? (try? RunStore(at: url).runs()) : nil
        return Set((runs ?? []).map(\.name) + paths(typed).filter(isFolder)).sorted()
    }

    /// Data sets and tasks by name, and files.
    static let data = custom { _, _, typed in
        KnownCorpus.all.map(\.name) + TaskCorpus.all.map(\.name) + paths(typed)
    }

    /// Kinds of tokenizers, and files.
    static let tokenizers = custom { _, _, typed in Tokenizer.Kind.allCases.map(\.rawValue) + paths(typed) }

    /// What is in the folder that somebody has typed so far.
    private static func paths(_ typed: String) -> [String] {
        let folder = typed.lastIndex(of: "/").map { String(typed[...$0]) } ?? ""
        let names = try? FileManager.default.contentsOfDirectory(atPath: folder.isEmpty ? "." : folder)
        return (names ?? []).filter { !$0.hasPrefix(".") }.sorted().map { folder + $0 }
    }

    private static func isFolder(_ path: String) -> Bool {
        var isFolder: ObjCBool = false
        return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && isFolder.boolValue
    }
}
