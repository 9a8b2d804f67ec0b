import ArgumentParser
import Foundation

@main
struct Feedback: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Trains and runs transformers with feedback memory.",
        discussion: """
            Every setting of a run can be given as a flag, in the environment (--batch-size as FEEDBACK_BATCH_SIZE), or in a \
            YAML file (batch-size: 12), in this order of precedence; then come the preset and the defaults.

            Results go to standard output, everything else to standard error. The exit status is 0, 1 after an error, 64 \
            after wrong usage, 130 when interrupted, 143 when terminated.
            """,
        version: "0.1.0",
        subcommands: [
            Train.self, Generate.self, Evaluate.self, Verify.self, Benchmark.self, DataCommand.self,
            Devices.self, Runs.self, Serve.self, Import.self, Export.self,
        ])

    static func main() async {
        do {
            let arguments = ProcessInfo.processInfo.arguments.dropFirst()
            var command: any ParsableCommand
            do { command = try await asyncParseAsRoot(Array(arguments)) } catch {
                Ranks.letFirstSpeak()
                let message = message(for: error)
                guard exitCode(for: error) == .validationFailure, let better = suggestion(message, arguments) else {
                    throw error
                }
                var console = Console()
                console.warn(fullMessage(for: error).replacing(message, with: better, maxReplacements: 1))
                throw ExitCode.validationFailure
            }
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch {
            exit(withError: error)
        }
    }
}
