import ArgumentParser
import FeedbackTraining
import Foundation

/// A whole number as typed; its range is checked with the other settings.
struct WholeNumber: ExpressibleByArgument {
    let text: String
    init?(argument: String) {
        guard argument.wholeMatch(of: /[-+]?[0-9]+/) != nil else { return nil }
        text = argument
    }
}

/// A number as typed; its range is checked with the other settings.
struct Number: ExpressibleByArgument {
    let text: String
    init?(argument: String) {
        guard Double(argument) != nil else { return nil }
        text = argument
    }
}

/// The settings of a run as flags: one for each row of `Setting.all`.
///
/// The parser takes arguments from the mirror of an instance, and has their values decoded by name.
struct SettingOptions: ParsableArguments, CustomReflectable {
    /// What was given, by the setting's name.
    private var given: [String: String] = [:]

    init() {}

    init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: Name.self)
        for setting in Setting.all {
            let name = Name(stringValue: setting.name)
            given[setting.name] =
                switch setting.kind {
                case .wholeNumber: try values.decode(Option<WholeNumber?>.self, forKey: name).wrappedValue?.text
                case .number: try values.decode(Option<Number?>.self, forKey: name).wrappedValue?.text
                case .bool: try values.decode(Flag<Bool?>.self, forKey: name).wrappedValue.map { "\($0)" }
                case .choice, .data, .tokenizer, .text:
                    try values.decode(Option<String?>.self, forKey: name).wrappedValue
                }
        }
    }

    var customMirror: Mirror { Mirror(self, children: Setting.all.map { ($0.name, Self.argument($0)) }) }

    private static func argument(_ setting: Setting) -> Any {
        let usual = setting.text(RunConfiguration()).map { " (default: \($0))" } ?? ""
        let help = ArgumentHelp(
            "\(setting.summary.prefix(1).uppercased() + setting.summary.dropFirst()).\(usual)", valueName: "value")
        func text(_ completion: CompletionKind? = nil) -> Option<String?> {
            Option(parsing: .unconditional, help: help, completion: completion)
        }
        return switch setting.kind {
        case .wholeNumber: Option<WholeNumber?>(parsing: .unconditional, help: help)
        case .number: Option<Number?>(parsing: .unconditional, help: help)
        case .bool: Flag<Bool?>(inversion: .prefixedNo, help: help)
        case .choice: text(.list(setting.choices))
        case .data: text(.data)
        case .tokenizer: text(.tokenizers)
        case .text: text()
        }
    }

    private struct Name: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    /// The text of a setting; nil where it was not given.
    subscript(name: String) -> String? {
        get { given[name] }
        set { given[name] = newValue }
    }

    func validate() throws {
        if ["steps", "epochs", "seconds"].count(where: { given[$0] != nil }) > 1 {
            throw ValidationError("give only one of --steps, --epochs and --seconds")
        }
    }

    /// Applies the settings that were given.
    func apply(to configuration: inout RunConfiguration) throws {
        for setting in Setting.all { try given[setting.name].map { try setting.set($0, in: &configuration) } }
    }
}
