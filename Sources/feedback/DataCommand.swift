import ArgumentParser
import FeedbackTraining
import Foundation

struct DataCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "data", abstract: "Lists and fetches data sets.", subcommands: [List.self, Fetch.self])

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Lists the data sets and tasks that are known by name.")

        func run() {
            for corpus in KnownCorpus.all {
                print("\(corpus.name)  \(grouped(corpus.bytes)) bytes  \(corpus.summary)")
                print(
                    "  " + (corpus.local.map { "at \($0.path)" } ?? "not here yet; feedback data fetch \(corpus.name)"))
            }
            for corpus in TaskCorpus.all { print("\(corpus.name)  built in  \(corpus.task.summary)") }
        }
    }

    struct Fetch: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Downloads a data set if it is not here yet, and prints where it is.",
            discussion: """
                A text is looked for in $FEEDBACK_DATA_DIR, then in the cache ($XDG_CACHE_HOME/feedback), and only then \
                downloaded into the cache.
                """)

        @Argument(help: "Its name, as `feedback data list` shows it.")
        var name = KnownCorpus.tinyShakespeare.name

        func run() async throws {
            guard let known = KnownCorpus.all.first(where: { $0.name == name }) else {
                throw CorpusError(
                    "there is no data set \(name); there are \(KnownCorpus.all.map(\.name).joined(separator: ", "))")
            }
            var console = Console()
            _ = try await load(name, &console)
            print(known.local?.path ?? "")
        }
    }
}
