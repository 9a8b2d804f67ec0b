/// One token for every different character of a text, in the order of their Unicode scalars.
public struct CharacterTokenizer: Equatable, Sendable {
    /// The characters by token.
    public let characters: [Unicode.Scalar]
    private let tokens: [Unicode.Scalar: Int32]

    /// The vocabulary of a text: its different characters, sorted.
    public init(_ text: String) {
        self.init(characters: Set(text.unicodeScalars).sorted())
    }

    /// - Precondition: no character is there twice.
    init(characters: [Unicode.Scalar]) {
        self.characters = characters
        tokens = Dictionary(uniqueKeysWithValues: zip(characters, 0...))
    }

    func encode(_ text: String) throws(TokenizerError) -> [Int32] {
        var encoded: [Int32] = []
        encoded.reserveCapacity(text.utf8.count)
        for (position, character) in text.unicodeScalars.enumerated() {
            guard let token = tokens[character] else { throw .unknownCharacter(character, position: position) }
            encoded.append(token)
        }
        return encoded
    }
}
