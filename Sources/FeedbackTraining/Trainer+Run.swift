import FeedbackTransformer
import Foundation

/// What happens in a run, as it happens.
public enum TrainingEvent: Sendable {
    case step(Trainer.Step)
    case validation(step: Int, Evaluation)
    /// The sample prompt and what the model makes of it.
    case sample(step: Int, String)
    case checkpoint(step: Int, URL)
}

extension Trainer {
    /// Trains to the last step, validating, sampling and saving at the configured intervals and at the end.
    ///
    /// - Parameters:
    ///   - folder: where checkpoints and metrics go; nowhere where nil.
    ///   - report: called with everything that happens.
    ///   - shouldStop: asked after every step; a run that stops early saves a checkpoint first.
    /// - Returns: whether the last step has been taken.
    @discardableResult
    public func run(
        in folder: RunFolder? = nil, report: (TrainingEvent) -> Void = { _ in }, shouldStop: () -> Bool = { false }
    ) throws -> Bool {
        func emit(_ event: TrainingEvent) throws {
            try folder?.record(event)
            report(event)
        }
        func save() throws {
            guard let folder else { return }
            try emit(.checkpoint(step: step, try folder.save(self)))
        }
        while step < totalSteps {
            try emit(.step(try trainStep()))
            let last = step == totalSteps
            if last || step % configuration.evalInterval == 0 {
                try emit(.validation(step: step, try validate()))
            }
            if last || step % configuration.sampleInterval == 0 { try emit(.sample(step: step, try sample())) }
            let stops = !last && shouldStop()
            if last || stops || step % configuration.checkpointInterval == 0 { try save() }
            if stops { return false }
        }
        return true
    }
}
