import ArgumentParser
import FeedbackRuns
import Foundation

struct Runs: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows the history of runs.",
        discussion: """
            Every training enters itself: its settings, metrics, samples and checkpoints. A RUN is an id of the list, a run's \
            name, or its folder.

            Examples:
              feedback runs list --state running
              feedback runs show 12
              feedback runs compare 12 13
              feedback runs export 12 --format csv > run.csv
              feedback runs delete 12
            """,
        subcommands: [List.self, Show.self, Compare.self, Export.self, Delete.self], defaultSubcommand: List.self)

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Lists runs, newest first.",
            discussion: """
                Examples:
                  feedback runs list --state running
                  feedback runs list --name demo --limit 5 --json
                """)
        @Option(help: "Only runs that are in this state.")
        var state: Run.Status?
        @Option(help: ArgumentHelp("Only runs whose name has this in it.", valueName: "text"))
        var name: String?
        @Option(parsing: .unconditional, help: ArgumentHelp("So many at most.", valueName: "number"))
        var limit: Int?
        @Flag(help: "Print one JSON object, with everything that is known of the runs but their metrics.")
        var json = false
        @OptionGroup var history: HistoryOptions

        func validate() throws {
            if let limit, limit < 1 { throw ValidationError("limit is \(limit); it must be 1 or more") }
        }

        func run() throws {
            let all = try history.store().runs()
            let runs = all.filter { run in
                (state.map { $0 == run.state() } ?? true) && (name.map { run.name.contains($0) } ?? true)
            }.prefix(limit ?? .max)
            if json { return try printResult(try jsonText(["runs": runs.map(Listed.init)])) }
            if runs.isEmpty {
                return try printResult(
                    all.isEmpty ? "no runs yet; feedback train --preset demo makes one" : "no such runs")
            }
            try printResult(
                table(
                    ["id", "name", "state", "step", "loss", "validation", "best", "began"],
                    runs.map { run in
                        [
                            "\(run.id!)", run.name, run.state().rawValue, "\(run.step)/\(run.totalSteps)",
                            number(run.loss), number(run.validation), number(run.bestValidation), date(run.created),
                        ]
                    }))
        }
    }

    /// A run and what it is doing.
    private struct Listed: Encodable {
        let run: Run

        private enum Key: CodingKey { case state }
        func encode(to encoder: any Encoder) throws {
            try run.encode(to: encoder)
            var values = encoder.container(keyedBy: Key.self)
            try values.encode(run.state(), forKey: .state)
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Shows a run: how it went, and its settings.",
            discussion: """
                Example:
                  feedback runs show 12
                """)
        @OptionGroup var asked: AskedRun

        func run() throws {
            let (run, metrics) = try asked.find()
            var lines: [(String, String?)] = [
                ("run", "\(run.id!), \(run.name)"), ("state", run.state().rawValue), ("failure", run.failure),
                ("folder", run.folder), ("revision", run.revision), ("machine", run.machine),
                ("began", date(run.created)), ("ended", run.ended.map(date)),
                ("steps", "\(run.step) of \(run.totalSteps)"),
                ("training time", duration(metrics.steps.reduce(0) { $0 + $1.seconds })),
                ("tokens/s", run.tokensPerSecond.map { grouped(rounded: $0) }),
                ("loss", run.loss.map(number)),
                ("validation", run.validation.map(number)), ("best", run.bestValidation.map(number)),
                ("checkpoint", metrics.checkpoints.last?.path),
            ]
            if let weights = metrics.validations.last?.layerWeights {
                lines.append(
                    ("layer weights", weights.map { String(format: "%.3f", $0) }.joined(separator: " ")))
            }
            try printResult(table(nil, lines.compactMap { name, text in text.map { [name, $0] } }))
            try printResult("\nsettings")
            try printResult(table(nil, run.configuration.sorted { $0.key < $1.key }.map { [$0.key, $0.value] }))
            if let sample = metrics.samples.last { try printResult("\nsample of step \(sample.step)\n\(sample.text)") }
        }
    }

    struct Compare: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Shows how runs ended, and the settings in which they differ.",
            discussion: """
                Example:
                  feedback runs compare 12 13
                """)
        @Argument(help: "Ids, names or folders.", completion: .runs)
        var runs: [String]
        @OptionGroup var history: HistoryOptions

        func validate() throws {
            if runs.count < 2 { throw ValidationError("give at least two runs to compare") }
        }

        func run() throws {
            let store = try history.store()
            let runs = try self.runs.map { try store.run($0) }
            let names = Set(runs.flatMap(\.configuration.keys)).sorted()
            let differing = names.filter { name in Set(runs.map { $0.configuration[name] }).count > 1 }
            var rows: [[String]] = [
                ["state"] + runs.map { $0.state().rawValue },
                ["step"] + runs.map { "\($0.step)/\($0.totalSteps)" },
                ["loss"] + runs.map { number($0.loss) },
                ["validation"] + runs.map { number($0.validation) },
                ["best"] + runs.map { number($0.bestValidation) },
                ["tokens/s"]
                    + runs.map { $0.tokensPerSecond.map { grouped(rounded: $0) } ?? "-" },
            ]
            rows += differing.map { name in [name] + runs.map { $0.configuration[name] ?? "-" } }
            try printResult(table([""] + runs.map { "\($0.id!) \($0.name)" }, rows))
        }
    }

    struct Export: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Prints a run's metrics as CSV or JSON Lines.",
            discussion: """
                Examples:
                  feedback runs export 12 > run.csv
                  feedback runs export runs/demo --format jsonl > run.jsonl
                """)
        @OptionGroup var asked: AskedRun
        @Option(help: "csv, a line a step; or jsonl, everything, an object a line.")
        var format = RunExport.csv

        func run() throws {
            let (run, metrics) = try asked.find()
            try printResult(try format.text(run, metrics), terminator: "")
        }
    }

    struct Delete: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Removes runs from the history; their folders stay.",
            discussion: """
                Example:
                  feedback runs delete 12
                """)
        @Argument(help: "Ids, names or folders.", completion: .runs)
        var runs: [String]
        @OptionGroup var history: HistoryOptions

        func run() throws {
            let store = try history.store()
            // All are found before the first goes, and each goes once.
            var found: [Run] = []
            for run in try runs.map({ try store.run($0) }) where !found.contains(where: { $0.id == run.id }) {
                found.append(run)
            }
            for run in found {
                try store.delete(run)
                try printResult("deleted run \(run.id!) (\(run.name)); its folder \(run.folder) is untouched")
            }
        }
    }
}

extension RunExport: ExpressibleByArgument {}
extension Run.Status: ExpressibleByArgument {}

private func number(_ value: Double?) -> String { value.map(number) ?? "-" }
private func number(_ value: Double) -> String { String(format: "%.4f", value) }

private func date(_ seconds: Double) -> String {
    Date(timeIntervalSince1970: seconds).formatted(
        .verbatim(
            "\(year: .defaultDigits)-\(month: .twoDigits)-\(day: .twoDigits) \(hour: .twoDigits(clock: .twentyFourHour, hourCycle: .zeroBased)):\(minute: .twoDigits)",
            locale: Locale(identifier: "en_US_POSIX"), timeZone: .current, calendar: Calendar(identifier: .gregorian)))
}

/// Rows in columns as wide as they need on a terminal.
private func table(_ header: [String]?, _ rows: [[String]]) -> String {
    let all = (header.map { [$0] } ?? []) + rows
    let columns = all.map(\.count).max() ?? 0
    let widths = (0..<columns).map { column in all.map { $0.count > column ? $0[column].width : 0 }.max()! }
    return all.map { row in
        row.enumerated().map { column, text in
            column == row.count - 1 ? text : text + String(repeating: " ", count: widths[column] - text.width)
        }.joined(separator: "  ")
    }.joined(separator: "\n")
}
