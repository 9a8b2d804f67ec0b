import FeedbackTransformer

/// What a client may ask for at most.
struct CompletionLimits: Sendable {
    var bodyBytes = 1 << 20
    /// Of a prompt, and of a completion.
    var tokens = 4096
    /// Prompts times n.
    var choices = 128
    var stopBytes = 256
}

/// A request to `/v1/completions`, checked.
struct CompletionRequest: Equatable, Sendable {
    enum Prompt: Equatable, Sendable {
        case text(String)
        case tokens([Int])
    }
    var model: String
    var prompts: [Prompt]
    var maxTokens: Int
    var temperature: Double
    var topP: Double?
    var topK: Int?
    var minP: Double?
    /// n.
    var choicesPerPrompt: Int
    var stops: [String]
    var seed: Int?
    /// How many of the likeliest tokens are told of each token; nil for no log-probabilities.
    var logprobs: Int?
    var echo: Bool
    var stream: Bool
    var includeUsage: Bool

    private static let known: Set<String> = [
        "model", "prompt", "max_tokens", "temperature", "top_p", "top_k", "n", "best_of", "stop", "seed", "logprobs",
        "echo", "stream", "stream_options", "suffix", "frequency_penalty", "presence_penalty", "logit_bias", "min_p",
        "repetition_penalty",
    ]
    /// What other servers take that changes no text.
    private static let ignored: Set<String> = ["user", "metadata", "store", "service_tier", "safety_identifier"]

    init(_ body: JSON, limits: CompletionLimits) throws(APIError) {
        let parameters = try Parameters(body, known: Self.known, ignored: Self.ignored)
        _ = try parameters.require("model")
        model = try parameters.string("model")!
        prompts = try Self.prompts(parameters, limits)
        maxTokens = try parameters.integer("max_tokens", in: 0...limits.tokens) ?? 16
        temperature = try parameters.number("temperature", in: 0...2) ?? 1
        topP = try parameters.number("top_p", in: 0...1)
        topK = try parameters.integer("top_k", in: 1...Int.max)
        minP = try parameters.number("min_p", in: 0...1)
        choicesPerPrompt = try parameters.integer("n", in: 1...limits.choices) ?? 1
        stops = try Self.stops(parameters, limits)
        seed = try parameters.integer("seed", in: Int.min...Int.max)
        logprobs = try parameters.integer("logprobs", in: 0...5)
        echo = try parameters.bool("echo") ?? false
        stream = try parameters.bool("stream") ?? false
        includeUsage = try Self.includeUsage(parameters, stream)
        try refuseUnsupported(parameters)
        let choices = prompts.count * choicesPerPrompt
        guard choices <= limits.choices else {
            throw .invalid(
                "n",
                "\(prompts.count) prompts times n \(choicesPerPrompt) are \(choices) choices; at most "
                    + "\(limits.choices) are allowed in a request")
        }
    }

    // MARK: Parameters with several forms

    private static func prompts(_ parameters: Parameters, _ limits: CompletionLimits) throws(APIError) -> [Prompt] {
        let value = try parameters.require("prompt")
        let forms = "a string, an array of strings, an array of token ids, or an array of such arrays"
        switch value {
        case .string(let text): return [.text(text)]
        case .array(let elements):
            guard let first = elements.first else { throw .invalid("prompt", "prompt is empty; it must be \(forms)") }
            if case .integer = first { return [.tokens(try tokens(elements, "prompt"))] }
            guard elements.count <= limits.choices else {
                throw .invalid("prompt", "prompt has \(elements.count) prompts; at most \(limits.choices) are allowed")
            }
            var prompts: [Prompt] = []
            for (index, element) in elements.enumerated() {
                switch (element, first) {
                case (.string(let text), .string): prompts.append(.text(text))
                case (.array(let ids), .array): prompts.append(.tokens(try tokens(ids, "prompt[\(index)]")))
                default: throw .invalid("prompt", "prompt[\(index)] is \(element.kind); prompt must be \(forms)")
                }
            }
            return prompts
        default: throw parameters.wrong("prompt", value, forms)
        }
    }

    private static func tokens(_ elements: [JSON], _ name: String) throws(APIError) -> [Int] {
        var tokens: [Int] = []
        tokens.reserveCapacity(elements.count)
        for (index, element) in elements.enumerated() {
            guard case .integer(let token) = element else {
                throw .invalid("prompt", "\(name)[\(index)] must be a token id, not \(element.kind)")
            }
            tokens.append(token)
        }
        return tokens
    }

    private static func stops(_ parameters: Parameters, _ limits: CompletionLimits) throws(APIError) -> [String] {
        let stops: [String]
        switch parameters["stop"] {
        case nil: return []
        case .string(let text): stops = [text]
        case .array(let elements) where elements.allSatisfy({ $0.text != nil }): stops = elements.compactMap(\.text)
        case .some(let value): throw parameters.wrong("stop", value, "a string or an array of strings")
        }
        guard stops.count <= 4 else { throw .invalid("stop", "stop has \(stops.count) texts; at most 4 are allowed") }
        for stop in stops where !(1...limits.stopBytes).contains(stop.utf8.count) {
            throw .invalid(
                "stop", "a stop text has \(stop.utf8.count) bytes; it must have between 1 and \(limits.stopBytes)")
        }
        return stops
    }

    private static func includeUsage(_ parameters: Parameters, _ stream: Bool) throws(APIError) -> Bool {
        guard let value = parameters["stream_options"] else { return false }
        guard case .object = value else { throw parameters.wrong("stream_options", value, "an object") }
        guard stream else { throw .invalid("stream_options", "stream_options is only allowed where stream is true") }
        // The official client's option against attacks on the length of chunks; there is nothing to turn off here.
        let options = try Parameters(value, known: ["include_usage", "include_obfuscation"])
        _ = try options.bool("include_obfuscation")
        return try options.bool("include_usage") ?? false
    }

    /// What OpenAI's interface has and this one does not: allowed only where it changes nothing.
    private func refuseUnsupported(_ parameters: Parameters) throws(APIError) {
        if let bestOf = try parameters.integer("best_of", in: 1...Int.max), bestOf != choicesPerPrompt {
            throw .invalid(
                "best_of", "best_of is \(bestOf); only best_of equal to n (\(choicesPerPrompt)) is supported")
        }
        if let suffix = try parameters.string("suffix"), !suffix.isEmpty {
            throw .invalid("suffix", "suffix is not supported; leave it out")
        }
        for name in ["frequency_penalty", "presence_penalty"] {
            if let penalty = try parameters.number(name, in: -2...2), penalty != 0 {
                throw .invalid(name, "\(name) is not supported; leave it out")
            }
        }
        if let penalty = try parameters.number("repetition_penalty", in: 0...10), penalty != 1 {
            throw .invalid("repetition_penalty", "repetition_penalty is not supported; leave it out")
        }
        if let bias = parameters["logit_bias"], bias != .object([]) {
            throw .invalid("logit_bias", "logit_bias is not supported; leave it out")
        }
    }
}

/// Reads the parameters of a request's body, strictly: what has the wrong type or is out of range is named. A parameter that
/// is null counts as left out.
struct Parameters {
    private let values: [String: JSON]

    /// Throws where the body is no object, or has parameters that are neither in `known` nor `ignored`.
    init(_ body: JSON, known: Set<String>, ignored: Set<String> = []) throws(APIError) {
        guard case .object(let members) = body else {
            throw .invalid(nil, "the body must be a JSON object, not \(body.kind)")
        }
        for member in members where !known.contains(member.name) && !ignored.contains(member.name) {
            throw .invalid(member.name, "unknown parameter \(member.name)")
        }
        values = Dictionary(uniqueKeysWithValues: members.map { ($0.name, $0.value) })
    }

    subscript(name: String) -> JSON? {
        guard let value = values[name], value != .null else { return nil }
        return value
    }

    func require(_ name: String) throws(APIError) -> JSON {
        guard let value = self[name] else { throw .invalid(name, "\(name) is missing") }
        return value
    }

    func string(_ name: String) throws(APIError) -> String? {
        guard let value = self[name] else { return nil }
        guard case .string(let text) = value else { throw wrong(name, value, "a string") }
        return text
    }

    func bool(_ name: String) throws(APIError) -> Bool? {
        guard let value = self[name] else { return nil }
        guard case .bool(let flag) = value else { throw wrong(name, value, "true or false") }
        return flag
    }

    func integer(_ name: String, in range: ClosedRange<Int>) throws(APIError) -> Int? {
        guard let value = self[name] else { return nil }
        let number: Int
        switch value {
        case .integer(let whole): number = whole
        // Some clients have no other numbers.
        case .number(let other) where other == other.rounded() && abs(other) < 0x1p53: number = Int(other)
        case .number:
            throw .invalid(name, "\(name) must be a whole number from \(range.lowerBound) to \(range.upperBound)")
        default: throw wrong(name, value, "a whole number")
        }
        guard range.contains(number) else {
            throw .invalid(
                name, "\(name) is \(number); it must be between \(range.lowerBound) and \(range.upperBound)")
        }
        return number
    }

    func number(_ name: String, in range: ClosedRange<Double>) throws(APIError) -> Double? {
        guard let value = self[name] else { return nil }
        let number: Double
        switch value {
        case .integer(let whole): number = Double(whole)
        case .number(let other): number = other
        default: throw wrong(name, value, "a number")
        }
        guard range.contains(number) else {
            throw .invalid(
                name, "\(name) is \(number); it must be between \(range.lowerBound) and \(range.upperBound)")
        }
        return number
    }

    func wrong(_ name: String, _ value: JSON, _ wanted: String) -> APIError {
        .invalid(name, "\(name) must be \(wanted), not \(value.kind)")
    }
}
