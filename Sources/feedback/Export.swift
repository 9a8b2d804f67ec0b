import ArgumentParser
import FeedbackTransformer
import Foundation

struct Export: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Writes a model's parameters for another program.",
        discussion: """
            labml: a state dict that torch.load reads and labml's feedback transformer loads, of a model with --memory-norm none; \
            safetensors: the same names. A window of memories is not in the file: give it to import.

            Examples:
              feedback export runs/labml --format labml --output model.pth
              feedback export model --format safetensors --output model.safetensors
            """)

    @Argument(help: "A model folder; or a run, its folder, id or name: its best checkpoint.", completion: .runs)
    var model: String

    @Option(help: "What to write.")
    var format: FeedbackModel.ExportFormat

    @Option(help: ArgumentHelp("The file to make.", valueName: "file"), completion: .file())
    var output: String

    @OptionGroup var history: HistoryOptions

    func run() throws {
        let (folder, note) = try openModel(try history.folder(of: model))
        try folder.model.export(as: format, to: URL(filePath: output))
        var console = Console()
        if let note { console.print(note) }
        if folder.memoryWindow < folder.model.configuration.positions {
            console.print(
                "a step sees \(folder.memoryWindow) memories: give import --memory-window \(folder.memoryWindow)")
        }
        try printResult(output)
    }
}

extension FeedbackModel.ExportFormat: ExpressibleByArgument {}
