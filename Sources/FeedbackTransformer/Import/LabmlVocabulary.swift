extension Tokenizer {
    /// One token for every character of a list, in its order. Throws where one is there twice, or two are the same to Unicode.
    public init(characters: String) throws(TokenizerError) {
        var seen: Set<String> = []
        for character in characters.unicodeScalars where !seen.insert(String(character)).inserted {
            throw .malformed("the characters have \(String(character).debugDescription) twice")
        }
        self = .characters(CharacterTokenizer(characters: Array(characters.unicodeScalars)))
    }

    /// labml's tokens of a text: its characters in the order of their codes. Lines end with \n alone, as Python reads them.
    public init(labmlText text: String) throws(TokenizerError) {
        var (lines, previous) = (String.UnicodeScalarView(), Unicode.Scalar(0))
        for character in text.unicodeScalars {
            if !(character == "\n" && previous == "\r") { lines.append(character == "\r" ? "\n" : character) }
            previous = character
        }
        try self.init(.characters, text: String(lines))
    }

    /// Of Tiny Shakespeare, on which labml's experiment trains.
    public static let tinyShakespeare = Tokenizer.characters(
        CharacterTokenizer(
            characters: Array("\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".unicodeScalars)))
}
