import FeedbackTransformer
import Foundation

// A checkpoint is a model folder that also has `optimizer.safetensors`, Adam's moments under the parameters' names with
// "m." and "v." before them, and `training.json`: step, place in the data, random state.

extension Trainer {
    private struct State: Codable {
        var version = 1
        var step: Int
        var updates: Int
        var loader: ShuffledLoader.Cursor
        var bestLoss: Double?
        var bestStep: Int?
    }

    /// Writes everything that going on needs into a folder that exists.
    func write(into folder: URL) throws {
        try modelFolder.write(into: folder)
        let moments = [("m.", optimizer.m), ("v.", optimizer.v)].flatMap { prefix, store in
            store.tensors.map { Safetensors.Tensor(name: prefix + $0.name, shape: $0.shape, values: $0.values) }
        }
        try Safetensors.write(moments, to: folder.appending(path: "optimizer.safetensors"))
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        let state = try encoder.encode(
            State(
                step: step, updates: optimizer.updates, loader: loader.cursor, bestLoss: best?.loss,
                bestStep: best?.step))
        try writeFile(folder.appending(path: "training.json")) { try $0.write(contentsOf: state) }
    }

    /// A run that goes on from its newest checkpoint.
    public convenience init(resuming run: RunFolder, corpus: TextCorpus) throws {
        let configuration = try run.configuration()
        try self.init(configuration, corpus: corpus)
        guard let checkpoint = RunFolder.newestCheckpoint(of: run.url) else {
            throw FileError("\(run.url.path) has no checkpoint yet; start it anew in another folder")
        }
        let saved = try ModelFolder(contentsOf: checkpoint)
        guard saved.model.configuration == model.configuration, saved.tokenizer == tokenizer else {
            throw FileError(
                "\(checkpoint.path) does not fit its run: the model or the vocabulary differs. Has the text changed?")
        }
        let file = checkpoint.appending(path: "training.json")
        let state: State
        do {
            state = try JSONDecoder().decode(State.self, from: try readRegularFile(file))
        } catch let error as DecodingError {
            throw FileError("\(file.path) is damaged: \(explain(error))")
        }
        guard state.version == 1, state.step >= 0, state.step <= totalSteps, state.updates >= 0 else {
            throw FileError("\(file.path) is damaged or of another version")
        }
        let moments = try Safetensors(contentsOf: checkpoint.appending(path: "optimizer.safetensors"))
        do {
            try optimizer.m.load(moments, prefix: "m.")
            try optimizer.v.load(moments, prefix: "v.")
        } catch {
            throw FileError("\(checkpoint.path)/optimizer.safetensors: \(error)")
        }
        model.parameters.copy(from: saved.model.parameters)
        optimizer.updates = state.updates
        step = state.step
        best = state.bestLoss.flatMap { loss in state.bestStep.map { (loss, $0) } }
        try loader.resume(at: state.loader)
        parametersChanged()
    }
}
