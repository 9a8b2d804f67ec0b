import FeedbackTransformer
import Foundation

// A checkpoint is a model folder that also has `optimizer.safetensors`, Adam's moments under the parameters' names with
// "m." and "v." before them, and `training.json`: step, stage of the curriculum, place in the data, random state, and what
// the run is: its settings and the digest of its data. `memory.safetensors` has the memories that the streams carry.

extension Trainer {
    private struct State: Codable {
        var version = 1
        var step: Int
        var updates: Int
        var stage: Int
        var loader: LoaderCursor
        /// Where there are any.
        var lessons: LessonProgress?
        var bestLoss: Double?
        var bestStep: Int?
        var evaluationsSinceBest: Int
        /// Where there are any.
        var skips: Int?
        var settings: [String: String]
        var dataDigest: String
    }

    /// What only all ranks together have.
    struct Collected {
        let firstMoment, secondMoment: Parameters
        let memory: CarriedMemory?
    }

    /// Saves a checkpoint where there is a folder. All ranks call it.
    @discardableResult
    public func save(in folder: RunFolder?) throws -> URL? {
        let (first, second) = (session.collect(.firstMoment), session.collect(.secondMoment))
        let memory = configuration.streams == true ? session.carriedMemory : nil
        guard let folder, let first, let second else { return nil }
        return try folder.save(self, Collected(firstMoment: first, secondMoment: second, memory: memory))
    }

    /// Writes everything that going on needs into a folder that exists.
    func write(_ collected: Collected, into folder: URL) throws {
        let folderNow = modelFolder
        guard folderNow.model.parameters.values.allSatisfy(\.isFinite) else {
            throw TrainingError(
                step: step, what: "a parameter is not finite",
                learningRate: schedule.learningRate(step: step), gradientNorm: lastGradientNorm,
                lastGradientNorm: lastGradientNorm)
        }
        try folderNow.write(into: folder)
        let moments = collected.firstMoment.tensors(prefix: "m.") + collected.secondMoment.tensors(prefix: "v.")
        try Safetensors.write(moments, to: folder.appending(path: "optimizer.safetensors"))
        if let memory = collected.memory {
            let tensors = memory.vectors.enumerated().map { index, values in
                Safetensors.Tensor(
                    name: "memory.\(index)", shape: [memory.slots, batchSize, configuration.dModel], values: values[...]
                )
            }
            try Safetensors.write(tensors, to: folder.appending(path: "memory.safetensors"))
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        let state = try encoder.encode(
            State(
                step: step, updates: optimizer.updates, stage: stage, loader: loader.cursor,
                lessons: configuration.lessons.map { _ in lessonProgress }, bestLoss: best?.loss,
                bestStep: best?.step, evaluationsSinceBest: evaluationsSinceBest,
                skips: skips > 0 ? skips : nil, settings: configuration.settings, dataDigest: dataDigest))
        try writeFile(folder.appending(path: "training.json")) { try $0.write(contentsOf: state) }
    }

    /// The settings that may be others when a run goes on: how long, when it tells and saves, where it computes, with how many
    /// threads, and where its data is. On another device, with other threads, or another length, later steps are not to the bit
    /// those that they would have been.
    public static let changeable: Set = [
        "data", "validation", "device", "steps", "threads", "eval-interval", "sample-interval", "checkpoint-interval",
        "keep",
        "patience",
        "sample-prompt",
    ]

    /// A run that goes on from its newest checkpoint; where it has none yet, that begins.
    ///
    /// - Parameters:
    ///   - run: the run's folder.
    ///   - corpus: the data that it was trained on, wherever that is now.
    ///   - asked: its own configuration, where it is nil; of another only what is `changeable` may differ. The run's folder has
    ///     it from then on.
    ///   - communicator: the processes that train together; they may be more or fewer than before.
    public convenience init(
        resuming run: RunFolder, corpus: some Corpus, asked: RunConfiguration? = nil,
        communicator: any Communicator = OneProcess()
    ) throws {
        let own = try run.configuration()
        let configuration = asked ?? own
        let newest = RunFolder.newestCheckpoint(of: run.url)
        let tokenizer = try newest.flatMap { checkpoint in
            try run.withRemedy(checkpoint) { try configuration.tokenizer(in: checkpoint) }
        }
        try self.init(
            configuration, corpus: corpus, backend: try configuration.backend(communicator), tokenizer: tokenizer)
        guard let checkpoint = newest else { return }
        try run.withRemedy(checkpoint) { try restore(checkpoint, of: run) }
        if configuration != own, communicator.isFirst { try run.write(self.configuration) }
    }

    /// Takes everything from a checkpoint.
    private func restore(_ checkpoint: URL, of run: RunFolder) throws {
        let file = checkpoint.appending(path: "training.json")
        let state: State
        do {
            state = try JSONDecoder().decode(State.self, from: try readRegularFile(file))
        } catch let error as DecodingError {
            throw FileError("\(file.path) is damaged: \(explain(error))")
        }
        guard state.step <= totalSteps else {
            throw ConfigurationError("the run has taken \(state.step) steps; --steps \(totalSteps) is fewer")
        }
        guard state.version == 1, (0...totalSteps).contains(state.step), (0...state.step).contains(state.updates),
            configuration.stages.indices.contains(state.stage), (0...state.step).contains(state.evaluationsSinceBest),
            (0...Self.mostSkips).contains(state.skips ?? 0)
        else { throw FileError("\(file.path) is damaged or of another version") }
        let settings = configuration.settings
        let then = RunFolder.before.merging(state.settings) { $1 }
        for name in Setting.all.map(\.name) where settings[name] != then[name] && !Self.changeable.contains(name) {
            throw ConfigurationError(
                "\(run.url.path)/config.yaml has \(name) \(settings[name] ?? "unset"), but its newest checkpoint was trained "
                    + "with \(name) \(then[name] ?? "unset"); put it back, or start a new run with --init")
        }
        guard state.dataDigest == dataDigest else {
            throw ConfigurationError(
                "\(configuration.data) is not the data that \(checkpoint.path) was trained on; bring it back, or start "
                    + "a new run with --init")
        }
        let saved = try ModelFolder(contentsOf: checkpoint)
        guard saved.model.configuration == modelConfiguration, saved.tokenizer == tokenizer else {
            throw FileError("\(checkpoint.path) is damaged: its model does not fit its run")
        }
        let moments = try Safetensors(contentsOf: checkpoint.appending(path: "optimizer.safetensors"))
        let table = saved.model.parameters.table
        do {
            session.write(try Parameters(table, moments, prefix: "m."), to: .firstMoment)
            session.write(try Parameters(table, moments, prefix: "v."), to: .secondMoment)
        } catch {
            throw FileError("\(checkpoint.path)/optimizer.safetensors: \(error)")
        }
        session.write(saved.model.parameters)
        optimizer.updates = state.updates
        step = state.step
        best = state.bestLoss.flatMap { loss in state.bestStep.map { (loss, $0) } }
        evaluationsSinceBest = state.evaluationsSinceBest
        skips = state.skips ?? 0
        if let lessons = configuration.lessons {
            guard let progress = state.lessons, lessons.lessons.indices.contains(progress.lesson),
                (0..<Lessons.counted).contains(progress.steps), (0...1 << 40).contains(progress.answers),
                (0...progress.answers).contains(progress.correct)
            else { throw FileError("\(file.path) is damaged: its lessons do not fit its run") }
            lessonProgress = progress
        }
        try enter(stage: state.stage)
        try loader.resume(at: state.loader)
        if configuration.streams == true { try resumeMemory(checkpoint.appending(path: "memory.safetensors")) }
    }

    private func resumeMemory(_ url: URL) throws {
        let file = try Safetensors(contentsOf: url)
        let count = session.carriedMemory.vectors.count
        let slots = file.entries["memory.0"]?.shape.first ?? -1
        guard (0...session.shape.carry).contains(slots), file.entries.count == count else {
            throw FileError("\(url.path) does not fit its run")
        }
        let shape = [slots, batchSize, configuration.dModel]
        do {
            session.carriedMemory = CarriedMemory(
                slots: slots,
                vectors: try (0..<count).map { try file.floats("memory.\($0)", shape: shape) })
        } catch {
            throw FileError("\(url.path): \(error)")
        }
    }
}

extension RunConfiguration {
    /// The tokenizer of a checkpoint, where the text would give it only with much work, or its file may be gone.
    fileprivate func tokenizer(in checkpoint: URL) throws -> Tokenizer? {
        switch tokenizer {
        case .kind(.bpe), .file: try Tokenizer(contentsOf: checkpoint.appending(path: "tokenizer.json"))
        case nil, .kind: nil
        }
    }
}
