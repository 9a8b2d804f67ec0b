import FeedbackTraining
import Foundation

/// Tells how a run goes: one line that changes on a terminal, a line now and then elsewhere.
struct TrainingProgress {
    private let trainer: Trainer
    private let start = ContinuousClock.now
    private let firstStep: Int
    private var validation: Evaluation?
    private var lastLine = ContinuousClock.now
    /// The loss and the speed, smoothed over about twenty steps.
    private var loss: Double?
    private var tokensPerSecond: Double?

    init(_ trainer: Trainer) {
        self.trainer = trainer
        firstStep = trainer.step
    }

    func begin(_ folder: URL, console: inout Console) {
        let configuration = trainer.configuration
        console.print(
            "\(grouped(trainer.parameterCount)) parameters, \(configuration.memory.rawValue) memory; "
                + "\(grouped(trainer.totalSteps)) steps of \(grouped(trainer.tokensPerStep)) characters from "
                + "\(configuration.data), an epoch is \(grouped(trainer.stepsPerEpoch)) steps; "
                + "\(configuration.threads) threads, \(configuration.precision.rawValue)")
        console.print("run folder: \(folder.relativePath)")
        if firstStep > 0 { console.print("going on from step \(grouped(firstStep))") }
    }

    mutating func show(_ event: TrainingEvent, console: inout Console) {
        switch event {
        case .step(let step):
            loss = smooth(loss, step.loss)
            tokensPerSecond = smooth(tokensPerSecond, Double(step.tokens) / step.seconds)
            let due = ContinuousClock.now - lastLine > .seconds(10)
            if due { lastLine = .now }
            console.status(line(step.number), worthKeeping: due || step.number == trainer.totalSteps)
        case .validation(let step, let evaluation):
            validation = evaluation
            console.print(
                String(
                    format: "step %d: validation loss %.4f, %.4f bits per character, accuracy %.1f %%", step,
                    evaluation.loss, evaluation.bitsPerCharacter, 100 * evaluation.accuracy))
        case .sample(let step, let text):
            console.print(
                "step \(step) continues:\n"
                    + text.split(separator: "\n", omittingEmptySubsequences: false)
                    .map { "  | \($0)" }.joined(separator: "\n"))
        case .checkpoint(_, let url):
            console.print("saved \(url.relativePath)")
        }
    }

    private func smooth(_ old: Double?, _ new: Double) -> Double { old.map { 0.95 * $0 + 0.05 * new } ?? new }

    private func line(_ step: Int) -> String {
        let elapsed = (ContinuousClock.now - start) / .seconds(1)
        let left = elapsed / Double(step - firstStep) * Double(trainer.totalSteps - step)
        var line = String(format: "step %d/%d  loss %.4f", step, trainer.totalSteps, loss ?? 0)
        if let validation { line += String(format: "  validation %.4f", validation.loss) }
        line += "  \(grouped(Int(tokensPerSecond ?? 0))) tokens/s  \(duration(left)) left"
        return line
    }
}
