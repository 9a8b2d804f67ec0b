import FeedbackTransformer
import Foundation

/// What happens in a run, as it happens.
public enum TrainingEvent: Sendable {
    case step(Trainer.Step)
    case validation(step: Int, Evaluation)
    /// The sample prompt and what the model makes of it.
    case sample(step: Int, String)
    case checkpoint(step: Int, URL)
    /// Something that should be known, and does not end the run.
    case warning(step: Int, String)
}

extension Trainer {
    /// Why a run has ended.
    public enum Ending: Sendable {
        /// The last step has been taken.
        case completed
        /// The validation loss has not fallen for as many evaluations as the run has patience.
        case outOfPatience
        /// It was asked to stop.
        case stopped
    }

    /// How a run that takes no more steps has ended; nil while there are steps to take.
    public var ending: Ending? {
        if step >= totalSteps { return .completed }
        if let patience = configuration.patience, evaluationsSinceBest >= patience { return .outOfPatience }
        return nil
    }

    /// Trains to the end, validating, sampling and saving at the configured intervals and at the end. The best model so
    /// far is saved too. Where validation or a sample is not finite, training, whose own loss is, goes on with a warning.
    ///
    /// - Parameters:
    ///   - folder: where checkpoints and metrics go; nowhere where nil. Of several ranks, the first one's.
    ///   - report: called with everything that happens.
    ///   - shouldStop: asked after every step, on every rank; a run that stops early saves a checkpoint first.
    @discardableResult
    public func run(
        in folder: RunFolder? = nil, report: (TrainingEvent) -> Void = { _ in }, shouldStop: () -> Bool = { false }
    ) throws -> Ending {
        func emit(_ event: TrainingEvent) throws {
            try folder?.record(event)
            report(event)
        }
        func unlessNotFinite<Value>(_ what: String, _ body: () throws -> Value) throws -> Value? {
            do { return try body() } catch is NotFiniteError {
                let good = best.map { ", the best so far of step \($0.step)" } ?? ""
                try emit(
                    .warning(
                        step: step,
                        "\(what) is not finite, at a learning rate of \(schedule.learningRate(step: step)); training goes on, "
                            + "as its own loss is. Where that stays so, begin anew with a smaller --learning-rate or fewer "
                            + "layers (checkpoints are saved\(good))"))
                return nil
            }
        }
        let communicator = backend.communicator
        try communicator.agree(["checkpoint": digest(model.parameters, step: step)])
        let saves = communicator.any(folder != nil)
        try folder?.begin(self)
        defer { folder?.end() }
        do {
            while ending == nil {
                try emit(.step(try trainStep()))
                var isBest = false
                if step == totalSteps || step % configuration.evalInterval == 0 {
                    if let evaluation = try unlessNotFinite("validation's loss", validate) {
                        isBest = note(evaluation)
                        try emit(.validation(step: step, evaluation))
                    } else {
                        evaluationsSinceBest += 1
                    }
                }
                let ends = ending != nil
                if communicator.isFirst, ends || step % configuration.sampleInterval == 0,
                    let text = try unlessNotFinite("a sample's output", { try sample() })
                {
                    try emit(.sample(step: step, text))
                }
                let stops = !ends && communicator.any(shouldStop())
                if saves, ends || stops || isBest || step % configuration.checkpointInterval == 0,
                    let saved = try save(in: folder)
                {
                    try emit(.checkpoint(step: step, saved))
                }
                if stops { return .stopped }
            }
        } catch var error as TrainingError {
            error.checkpoint = folder.flatMap { RunFolder.newestCheckpoint(of: $0.url) }
            throw error
        }
        return ending!
    }

    /// Keeps count of the best evaluation; whether this is it.
    private func note(_ evaluation: Evaluation) -> Bool {
        guard evaluation.loss < best?.loss ?? .infinity else {
            evaluationsSinceBest += 1
            return false
        }
        best = (evaluation.loss, step)
        evaluationsSinceBest = 0
        return true
    }
}

/// Training that cannot go on.
public struct TrainingError: Error, CustomStringConvertible {
    public let step: Int
    public let what: String
    public let learningRate: Double
    /// At that step, and at the one before.
    public let gradientNorm, lastGradientNorm: Double
    /// The run's newest checkpoint, from before that step.
    public internal(set) var checkpoint: URL?

    public var description: String {
        func short(_ value: Double) -> String { value.isNaN ? "nan" : String(format: "%.4g", value) }
        let resort = checkpoint.map { ", from the last good checkpoint with --init \($0.relativePath)" } ?? ""
        return
            "training stopped at step \(step): \(what), at a learning rate of \(short(learningRate)) and a gradient norm "
            + "of \(short(gradientNorm)) (\(short(lastGradientNorm)) the step before); try a smaller --learning-rate or "
            + "--gradient-clip" + resort
    }
}

// MARK: What is the same for all ranks, and when a run goes on

extension Communicator {
    /// Throws where something differs from rank to rank that must not.
    package func agree(_ texts: KeyValuePairs<String, String>) throws {
        for (what, text) in texts {
            let all = allGather(Array(text.utf8))
            if let other = all.firstIndex(where: { $0 != all[0] }) {
                throw ConfigurationError(
                    "rank \(other) differs from rank 0 in its \(what); give every machine the same command, files and program"
                )
            }
        }
    }
}

/// SHA-256 of some data, as hexadecimal digits.
func digest(_ streams: [TokenStream]) throws -> String {
    let digest = Digest()
    for stream in streams { try stream.add(to: digest) }
    return digest.finalize().hexadecimal
}

/// The same of a file.
package func digest(of file: URL) throws -> String {
    Digest.of(try Data(contentsOf: file, options: .alwaysMapped)).hexadecimal
}

/// The same of parameters at a step.
func digest(_ parameters: Parameters, step: Int) -> String {
    let digest = Digest()
    digest.update(Array("\(step)".utf8))
    parameters.values.withUnsafeBytes { digest.update($0) }
    return digest.finalize().hexadecimal
}
