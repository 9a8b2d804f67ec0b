import ArgumentParser
import FeedbackEngine
import FeedbackTraining
import FeedbackTransformer
import Foundation

struct Benchmark: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measures speed beside this machine's own limit.",
        discussion: """
            First a small model of the same kind is checked against a reference in double precision; then steps are \
            timed, in turn with what bounds them. Tokens are random: no data is needed.

            Examples:
              feedback benchmark train --preset labml --threads 2
              feedback benchmark train --preset nanogpt-cpu --memory per-layer --json
              feedback benchmark generate --preset labml --precision int8 --threads 2
            """,
        subcommands: [Train.self, Generate.self])

    struct Train: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Training steps, beside their matrix products alone.",
            discussion: """
                --steps is how many are timed; as many as take about ten seconds by default. All else is by default as \
                the preset has it.
                """)

        @OptionGroup var common: Common
        @OptionGroup(title: "Settings") var settings: SettingOptions

        func run() throws {
            let configuration = try common.configuration(settings)
            let report = try TrainingBenchmark(common.preset, configuration).run(steps: settings.timedSteps)
            try common.show(
                report,
                of:
                    "\(configuration.memory.rawValue) memory, T \(configuration.sequenceLength), B \(configuration.batchSize)",
                limit: String(format: "its matrix products alone, %.0f GFLOP/s", report.limitRate / 1e9))
        }
    }

    struct Generate: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Tokens generated with the memory full, beside reading the weights and the memory.",
            discussion: """
                By default for one sequence on one thread, with a memory of the preset's sequence length. --batch-size is \
                how many sequences are stepped together; --precision may also be int8. --steps is how many runs of about a \
                memory's length are timed; as many as take about ten seconds by default.
                """)

        @OptionGroup var common: Common
        @OptionGroup(title: "Settings") var settings: SettingOptions

        func run() throws {
            var training = settings
            training["precision"] = nil
            let configuration = try common.configuration(training) { configuration in
                configuration.batchSize = 1
                configuration.threads = 1
                configuration.memoryWindow = configuration.sequenceLength
            }
            let name = settings["precision"] ?? configuration.precision.rawValue
            guard let precision = DecodingPrecision(rawValue: name) else {
                let choices = DecodingPrecision.allCases.map(\.rawValue).joined(separator: ", ")
                throw ConfigurationError("precision is \(name); it must be one of \(choices)")
            }
            let report = try DecodingBenchmark(common.preset, configuration, precision: precision)
                .run(steps: settings.timedSteps)
            let window = configuration.memoryWindow.map(String.init) ?? "all"
            try common.show(
                report,
                of: "\(configuration.memory.rawValue) memory of \(window), \(configuration.batchSize) at once",
                limit: String(format: "reading weights and memory once a step, %.1f GB/s", report.limitRate / 1e9))
        }
    }

    struct Common: ParsableArguments {
        @Option(help: "What to measure.")
        var preset = RunConfiguration.Preset.nanogptCPU

        @Flag(help: "Print one JSON object.")
        var json = false

        /// The preset, changed by what the benchmark has other defaults for, the environment, and the flags.
        func configuration(
            _ settings: SettingOptions, changing: (inout RunConfiguration) -> Void = { _ in }
        ) throws -> RunConfiguration {
            var configuration = RunConfiguration(preset: preset)
            changing(&configuration)
            try configuration.apply(environment: ProcessInfo.processInfo.environment)
            try settings.apply(to: &configuration)
            return configuration
        }

        func show(_ report: BenchmarkReport, of what: String, limit: String) throws {
            if json { return try printResult(try jsonText(report)) }
            func rate(_ tokensPerSecond: Double) -> String { grouped(rounded: tokensPerSecond) + " tokens/s" }
            try printResult("\(report.preset), \(what), \(report.precision), \(threads(report.threads))")
            try printResult(
                String(format: "verified, largest error %.2g %% of the tolerance", 100 * report.verifiedWithin))
            try printResult(
                rate(report.tokensPerSecond)
                    + String(format: ", %.4g s a step, median of %d", report.secondsPerStep, report.stepsTimed))
            try printResult("limit \(rate(report.limitTokensPerSecond)): \(limit)")
            try printResult(String(format: "utilization %.2f", report.utilization))
            try printResult(String(format: "peak memory %.2f GiB", Double(report.peakMemoryBytes) / 0x1p30))
            let total = report.phases.values.reduce(0, +)
            for (phase, seconds) in report.phases.sorted(by: { $0.value > $1.value }) {
                try printResult(String(format: "%12.6f s %5.1f %%  ", seconds, 100 * seconds / total) + phase)
            }
        }
    }
}

extension SettingOptions {
    /// The number of steps to time, where it was given.
    fileprivate var timedSteps: Int? { self["steps"].flatMap { Int($0) } }
}
