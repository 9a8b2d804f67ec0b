import ArgumentParser
import FeedbackTransformer
import Foundation

struct Import: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Makes a model folder of another program's checkpoint.",
        discussion: """
            labml: a state dict of its feedback transformer, of either variant: a file of torch.save or a safetensors file, or \
            the folder of a checkpoint. Sizes are what the tensors' shapes say. Nothing in the file is executed.

            A checkpoint has no vocabulary. It is the characters of the text that the model was trained on, in the order of their \
            codes, as labml numbers them; or a list in the order of the tokens. For 65 tokens without either, it is Tiny \
            Shakespeare's.

            Examples:
              feedback import labml model.pth --output model
              feedback import labml checkpoints/1000 --text novel.txt --output model
              feedback import labml model.pth --characters "\\n abcdefgh" --output model
            """)

    enum Format: String, CaseIterable, ExpressibleByArgument { case labml }

    @Argument(help: "Whose checkpoint it is.")
    var format: Format

    @Argument(help: "The checkpoint, a file or a folder.", completion: .file())
    var file: String

    @Option(help: ArgumentHelp("The model folder to make.", valueName: "dir"), completion: .directory)
    var output: String

    @Option(help: ArgumentHelp("The text that the model was trained on.", valueName: "file"), completion: .file())
    var text: String?

    @Option(parsing: .unconditional, help: "Memories a step saw in training; all by default.")
    var memoryWindow: Int?

    @Option(parsing: .unconditional, help: "The characters by token; \\n is a new line.")
    var characters: String?

    func validate() throws {
        if text != nil, characters != nil { throw ValidationError("give --text or --characters, not both") }
    }

    func run() throws {
        let folder = URL(filePath: output)
        guard !FileManager.default.fileExists(atPath: folder.path) else {
            throw FileError("\(output) is there already; choose another --output")
        }
        let model = try FeedbackModel(labml: URL(filePath: file))
        let sizes = model.configuration
        let (tokenizer, origin) = try tokenizer(vocabulary: sizes.vocabulary)
        guard tokenizer.vocabularySize == sizes.vocabulary else {
            throw ConfigurationError(
                "\(origin) \(grouped(tokenizer.vocabularySize)) characters, the model "
                    + "\(grouped(sizes.vocabulary)); give the text that it was trained on")
        }
        if let memoryWindow, !(1...sizes.window).contains(memoryWindow) {
            throw ConfigurationError("memory-window is \(memoryWindow); this model allows 1 to \(sizes.window)")
        }
        try ModelFolder(model: model, tokenizer: tokenizer, sequenceLength: memoryWindow).save(to: folder)
        var console = Console()
        console.print(
            "keys and values \(sizes.keyValue.rawValue), layers \(sizes.layers), d-model \(sizes.dModel), heads "
                + "\(sizes.heads), d-ff \(sizes.dFF); \(grouped(model.parameterCount)) parameters; \(origin) "
                + "\(sizes.vocabulary) characters")
        try printResult(output)
    }

    private func tokenizer(vocabulary: Int) throws -> (Tokenizer, origin: String) {
        if let text {
            guard let read = String(validating: try readRegularFile(URL(filePath: text)), as: UTF8.self) else {
                throw ConfigurationError("\(text) is not UTF-8 text")
            }
            return (try Tokenizer(labmlText: read), "\(text) has")
        }
        if let characters { return (try Tokenizer(characters: unescaped(characters)), "--characters has") }
        guard vocabulary == Tokenizer.tinyShakespeare.vocabularySize else {
            throw ConfigurationError(
                "the model has \(grouped(vocabulary)) tokens; give the text that it was trained on as --text, or its "
                    + "characters as --characters")
        }
        return (.tinyShakespeare, "Tiny Shakespeare has")
    }
}
