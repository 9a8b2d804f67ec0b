// `tokenizer.json` of byte-level BPE, as Hugging Face's `tokenizers` writes and reads it: the model's vocabulary and merges are of
// printable characters that stand for the bytes.
//
// What a file may have that changes tokens is known here or refused by its name. What has no part in a text's own tokens is read
// over: what marks a text's beginning (`post_processor`), and how places in it are told.

extension BPETokenizer {
    /// Whether a file is of byte-level BPE, rather than one of a kind of this package's own, which has neither merges nor a split.
    static func isIn(_ file: JSON) -> Bool {
        guard let model = file["model"], model["type"]?.text ?? "BPE" == "BPE", model["merges"] != nil else {
            return false
        }
        let stage = file["pre_tokenizer"]
        let isOwn = stage == nil || stage == .null || stage?["use_regex"] == .bool(false)
        return !(isOwn && model["merges"]?.elements?.isEmpty == true)
    }

    // MARK: Writing

    var file: JSON {
        let text = Self.characters(tokens, added: Set(added))
        let byteLevel: JSON = [
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": .bool(split == .gpt2),
        ]
        let preTokenizer: JSON =
            split == .gpt2
            ? byteLevel
            : [
                "type": "Sequence",
                "pretokenizers": [
                    [
                        "type": "Split", "pattern": ["Regex": .string(split.pattern)], "behavior": "Isolated",
                        "invert": false,
                    ], byteLevel,
                ],
            ]
        return [
            "version": "1.0", "truncation": nil, "padding": nil,
            "added_tokens": .array(
                added.map { token in
                    [
                        "id": .integer(Int(token)), "content": .string(text[Int(token)]), "single_word": false,
                        "lstrip": false, "rstrip": false, "normalized": false,
                        "special": .bool(special.contains(token)),
                    ]
                }),
            "normalizer": nil, "pre_tokenizer": preTokenizer, "post_processor": nil,
            "decoder": ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false],
            "model": [
                "type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil,
                "end_of_word_suffix": nil, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": .bool(takesWholeWords),
                "vocab": .object(text.enumerated().map { JSON.Member(name: $1, value: .integer($0)) }),
                "merges": .array(merges.map { .string("\(text[Int($0.left)]) \(text[Int($0.right)])") }),
            ],
        ]
    }

    /// The tokens as a file has them: an added one's own text, of others a character a byte.
    private static func characters(_ tokens: [[UInt8]], added: Set<Int32>) -> [String] {
        tokens.enumerated().map { token, bytes in
            if added.contains(Int32(token)) { return String(decoding: bytes, as: UTF8.self) }
            var text = String.UnicodeScalarView()
            text.append(contentsOf: bytes.map { byteCharacters[Int($0)] })
            return String(text)
        }
    }

    // MARK: Reading

    /// The tokens that a file may have.
    private static let mostTokens = 1 << 20
    /// The added ones, each of which is looked for at every place of a text.
    private static let mostAdded = 1 << 12
    private static let byteOfCharacter = Dictionary(uniqueKeysWithValues: zip(byteCharacters, UInt8(0)...255))

    init(_ file: JSON) throws(Malformed) {
        for (name, known) in [("normalizer", "no normalizer"), ("truncation", "none"), ("padding", "none")] {
            try Self.check(file[name], [.null], "\(name) \(Self.name(file[name]))", known)
        }
        let decoder = Self.name(file["decoder"])
        guard decoder == "ByteLevel" else { throw Self.unknown("decoder \(decoder)") }
        try Self.checkPostProcessor(file["post_processor"] ?? .null)
        let model = file["model"] ?? .null
        for (name, known) in [
            ("dropout", [.null, 0, .number(0)]), ("continuing_subword_prefix", [.null, ""]),
            ("end_of_word_suffix", [.null, ""]), ("byte_fallback", [false]),
        ] as [(String, [JSON])] { try Self.check(model[name], known, "model's \(name)", "none") }
        let split = try Self.split(file["pre_tokenizer"] ?? .null)
        let (tokens, added, special) = try Self.tokens(model["vocab"], added: file["added_tokens"] ?? [])
        let merges = try Self.merges(model["merges"], tokens, added: Set(added))
        var takesWholeWords = false
        switch model["ignore_merges"] {
        case nil, .null?, .bool(false)?: break
        case .bool(true)?: takesWholeWords = true
        default: throw Malformed("its model's ignore_merges is neither true nor false")
        }
        self.init(
            tokens: tokens, merges: merges, split: split, added: added, special: special,
            takesWholeWords: takesWholeWords)
    }

    private static func name(_ stage: JSON?) -> String { stage?["type"]?.text ?? stage?.kind ?? "none" }

    private static func check(_ value: JSON?, _ known: [JSON], _ name: String, _ needed: String) throws(Malformed) {
        if let value, !known.contains(value) { throw unknown(name, needed) }
    }

    private static func unknown(_ what: String, _ known: String = "ByteLevel") -> Malformed {
        Malformed("its \(what) is not known here; \(known) is, as in GPT-2's")
    }

    /// What it adds around a text is none of the text's tokens.
    private static func checkPostProcessor(_ stage: JSON) throws(Malformed) {
        let stages = name(stage) == "Sequence" ? stage["processors"]?.elements ?? [] : stage == .null ? [] : [stage]
        if let unknown = stages.first(where: { !["ByteLevel", "TemplateProcessing"].contains(name($0)) }) {
            throw Self.unknown("post_processor \(name(unknown))")
        }
    }

    private static func split(_ stage: JSON) throws(Malformed) -> WordSplit {
        func byteLevel(_ stage: JSON, usesPattern: Bool) throws(Malformed) {
            guard name(stage) == "ByteLevel" else { throw unknown("pre_tokenizer \(name(stage))") }
            guard stage["add_prefix_space"] == .bool(false) else {
                throw Malformed("its pre_tokenizer has add_prefix_space, which is not known here")
            }
            guard stage["use_regex"] ?? true == .bool(usesPattern) else {
                throw Malformed(
                    usesPattern
                        ? "its pre_tokenizer does not split a text (use_regex is false)"
                        : "its pre_tokenizer splits a text twice")
            }
        }
        guard stage["type"]?.text == "Sequence" else {
            try byteLevel(stage, usesPattern: true)
            return .gpt2
        }
        let stages = stage["pretokenizers"]?.elements ?? []
        guard stages.count == 2, stages[0]["type"]?.text == "Split" else {
            throw Malformed(
                "its pre_tokenizer is not known here (\(stages.map { name($0) }.joined(separator: ", "))); Split and "
                    + "ByteLevel are, as in Llama 3's")
        }
        let pattern = stages[0]["pattern"]?["Regex"]?.text
        guard let split = WordSplit.allCases.first(where: { $0.pattern == pattern }) else {
            throw Malformed("its pattern is not known here, only GPT-2's and Llama 3's: \(pattern ?? "none")")
        }
        guard stages[0]["behavior"] == "Isolated", stages[0]["invert"] == false else {
            throw Malformed("its Split is not known here; Isolated is, not inverted, as in Llama 3's")
        }
        try byteLevel(stages[1], usesPattern: false)
        return split
    }

    private static func tokens(
        _ vocabulary: JSON?, added list: JSON
    ) throws(Malformed) -> (tokens: [[UInt8]], added: [Int32], special: Set<Int32>) {
        guard case .object(let members)? = vocabulary, let entries = list.elements else {
            throw Malformed("its vocabulary is not an object, or its added tokens are no list")
        }
        let most = members.count + entries.count
        guard most <= mostTokens else { throw Malformed("it has \(most) tokens; \(mostTokens) is the most") }
        guard entries.count <= mostAdded else {
            throw Malformed("it has \(entries.count) added tokens; \(mostAdded) is the most")
        }
        var texts = [[UInt8]](repeating: [], count: most)
        var (added, special): ([Int32], Set<Int32>) = ([], [])
        for entry in entries {
            let (token, text) = try addedToken(entry, below: most)
            guard texts[token].isEmpty else { throw Malformed("its added tokens have the token \(token) twice") }
            texts[token] = Array(text.utf8)
            added.append(Int32(token))
            if entry["special"] == true { special.insert(Int32(token)) }
        }
        let isAdded = Set(added)
        for member in members {
            guard case .integer(let token) = member.value, texts.indices.contains(token), !member.name.isEmpty else {
                throw Malformed("\(member.name.debugDescription) has no token from 0 to \(most - 1)")
            }
            if isAdded.contains(Int32(token)), texts[token].elementsEqual(member.name.utf8) { continue }
            guard texts[token].isEmpty else { throw Malformed("its vocabulary has the token \(token) twice") }
            for character in member.name.unicodeScalars {
                guard let byte = byteOfCharacter[character] else {
                    throw Malformed(
                        "its token \(member.name.debugDescription) is not of characters that stand for bytes")
                }
                texts[token].append(byte)
            }
        }
        while texts.last?.isEmpty == true { texts.removeLast() }
        if let gap = texts.firstIndex(of: []) { throw Malformed("it has no token \(gap)") }
        let own = texts.enumerated().filter { !isAdded.contains(Int32($0.offset)) }.map(\.element)
        guard Set(own).count == own.count, Set(added.map { texts[Int($0)] }).count == added.count else {
            throw Malformed("two of its tokens have the same text")
        }
        let bytes = Set(own.filter { $0.count == 1 }.map { $0[0] })
        if let missing = (UInt8(0)...255).first(where: { !bytes.contains($0) }) {
            throw Malformed("it has no token for the byte \(missing), so not every text can be encoded")
        }
        return (texts, added, special)
    }

    private static func addedToken(_ entry: JSON, below most: Int) throws(Malformed) -> (token: Int, text: String) {
        guard case .integer(let token)? = entry["id"], (0..<most).contains(token),
            let text = entry["content"]?.text, !text.isEmpty
        else { throw Malformed("an added token has no text, or no number from 0 to \(most - 1)") }
        for name in ["lstrip", "rstrip", "single_word"] where entry[name] ?? false != .bool(false) {
            throw Malformed("its added token \(text.debugDescription) has \(name), which is not known here")
        }
        guard !text.unicodeScalars.contains(where: \.properties.isWhitespace) else {
            throw Malformed("its added token \(text.debugDescription) has white space, which is not known here")
        }
        return (token, text)
    }

    private static func merges(
        _ list: JSON?, _ tokens: [[UInt8]], added: Set<Int32>
    ) throws(Malformed) -> [Merge] {
        guard let list = list?.elements else { throw Malformed("its merges are no list") }
        var numbers: [[UInt8]: Int32] = [:]
        for (token, text) in tokens.enumerated() where !added.contains(Int32(token)) { numbers[text] = Int32(token) }
        func bytes(_ text: some StringProtocol) -> [UInt8]? {
            let bytes = text.unicodeScalars.compactMap { byteOfCharacter[$0] }
            return bytes.count == text.unicodeScalars.count ? bytes : nil
        }
        var (merges, pairs): ([Merge], Set<UInt64>) = ([], [])
        merges.reserveCapacity(list.count)
        for (index, entry) in list.enumerated() {
            let parts =
                entry.text?.split(separator: " ", omittingEmptySubsequences: false).map { bytes($0) }
                ?? entry.elements?.map { $0.text.flatMap { bytes($0) } } ?? []
            guard parts.count == 2, let (left, right) = parts[0].flatMap({ left in parts[1].map { (left, $0) } }),
                let leftToken = numbers[left], let rightToken = numbers[right], let result = numbers[left + right]
            else { throw Malformed("its merge \(index) is not of two tokens that make a third") }
            guard pairs.insert(Merge.pair(leftToken, rightToken)).inserted else {
                throw Malformed("its merge \(index) is there twice")
            }
            merges.append(Merge(left: leftToken, right: rightToken, result: result))
        }
        return merges
    }
}
