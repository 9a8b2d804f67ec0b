/// One token for every different character of a text, in the order of their Unicode scalars.
public struct CharacterTokenizer: Equatable, Sendable {
    /// The characters by token.
    public let characters: [Unicode.Scalar]
    /// By the character's number, as far as there are any; −1 for one that has none.
    private let tokens: [Int32]

    /// - Precondition: no character is there twice.
    init(characters: [Unicode.Scalar]) {
        self.characters = characters
        var tokens = Array(repeating: Int32(-1), count: characters.map { Int($0.value) + 1 }.max() ?? 0)
        for (token, character) in characters.enumerated() { tokens[Int(character.value)] = Int32(token) }
        self.tokens = tokens
    }

    func encode(_ text: String) throws(TokenizerError) -> [Int32] {
        var encoded: [Int32] = []
        encoded.reserveCapacity(text.utf8.count)
        for (position, character) in text.unicodeScalars.enumerated() {
            let number = Int(character.value)
            guard number < tokens.count, tokens[number] >= 0 else {
                throw .unknownCharacter(character, position: position)
            }
            encoded.append(tokens[number])
        }
        return encoded
    }
}
