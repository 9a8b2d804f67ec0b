import ArgumentParser
import FeedbackTraining

extension Feedback {
    /// What was probably meant by wrong usage, where the parser does not say so: a command that is nearly one, or an option
    /// by its initials (`--lr`) or by a part of its name (`--tokens`).
    ///
    /// - Parameter message: what the parser says.
    static func suggestion(_ message: String, _ arguments: some Sequence<String>) -> String? {
        var command: any ParsableCommand.Type = self
        for argument in arguments {
            let commands = command.configuration.subcommands
            if commands.isEmpty || argument.hasPrefix("-") { break }
            guard let next = commands.first(where: { $0._commandName == argument }) else {
                let names = commands.map { $0._commandName }
                let nearest = names.min { distance($0, argument) < distance($1, argument) }!
                return distance(nearest, argument) > 2
                    ? nil : "Unknown command '\(argument)'. Did you mean '\(nearest)'?"
            }
            command = next
        }
        guard let unknown = message.firstMatch(of: /^Unknown option '--([^']+)'(\. Did you mean)?/) else { return nil }
        let options = helpMessage(for: command).matches(of: /--([a-z0-9-]+)/).map { $0.1 }
        let meant =
            options.first { $0.split(separator: "-").compactMap(\.first).elementsEqual(unknown.1) }
            ?? (unknown.2 == nil && unknown.1.count > 2 ? options.first { $0.contains(unknown.1) } : nil)
        return meant.map { "Unknown option '--\(unknown.1)'. Did you mean '--\($0)'?" }
    }
}
