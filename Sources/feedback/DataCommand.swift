import ArgumentParser
import FeedbackTraining
import Foundation

struct DataCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "data", abstract: "Lists and fetches data sets.",
        discussion: """
            Examples:
              feedback data list
              feedback data fetch tiny_shakespeare
            """,
        subcommands: [List.self, Fetch.self])

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Lists the data sets and tasks that are known by name.")

        func run() throws {
            for corpus in KnownCorpus.all {
                try printResult("\(corpus.name)  \(grouped(corpus.bytes)) bytes  \(corpus.summary)")
                try printResult(
                    "  " + (corpus.local.map { "at \($0.path)" } ?? "not here yet; feedback data fetch \(corpus.name)"))
            }
            for corpus in TaskCorpus.all { try printResult("\(corpus.name)  built in  \(corpus.task.summary)") }
        }
    }

    struct Fetch: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Downloads a data set if it is not here yet, and prints where it is.",
            discussion: """
                A text is looked for in $FEEDBACK_DATA_DIR, then in the cache ($XDG_CACHE_HOME/feedback), and only then \
                downloaded into the cache.

                Example:
                  feedback data fetch tiny_shakespeare
                """)

        @Argument(
            help: "Its name, as `feedback data list` shows it.", completion: .list(KnownCorpus.all.map(\.name)))
        var name = KnownCorpus.tinyShakespeare.name

        func run() async throws {
            guard let known = KnownCorpus.all.first(where: { $0.name == name }) else {
                if TaskCorpus.all.contains(where: { $0.name == name }) {
                    throw CorpusError("\(name) is built in; there is nothing to fetch")
                }
                throw CorpusError(
                    "there is no data set \(name); there are \(KnownCorpus.all.map(\.name).joined(separator: ", "))")
            }
            var console = Console()
            _ = try await load(name, &console)
            try printResult(known.local?.path ?? "")
        }
    }
}
