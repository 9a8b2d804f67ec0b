import FeedbackTraining
import Foundation

/// Tells how a run goes: one line that changes on a terminal, a line now and then elsewhere.
struct TrainingProgress {
    private let trainer: Trainer
    private let start = ContinuousClock.now
    private let firstStep: Int
    private var sequenceLength: Int
    private var difficulty: ClosedRange<Int>?
    private var validation: Evaluation?
    private var lastLine = ContinuousClock.now
    /// The loss and the speed, smoothed over about twenty steps.
    private var loss: Double?
    private var accuracy: Double?
    private var tokensPerSecond: Double?

    init(_ trainer: Trainer) {
        self.trainer = trainer
        firstStep = trainer.step
        sequenceLength = trainer.sequenceLength
        difficulty = trainer.difficulty
    }

    func begin(_ folder: URL, _ ranks: Ranks, console: inout Console) {
        let configuration = trainer.configuration
        if let summary = ranks.summary(configuration, rows: trainer.batchSize) { console.print(summary) }
        console.print(
            "\(grouped(trainer.parameterCount)) parameters, \(configuration.memory.rawValue) memory; "
                + "\(grouped(trainer.totalSteps)) steps of \(grouped(trainer.tokensPerStep)) tokens from "
                + configuration.data
                + (trainer.stepsPerEpoch.map { ", an epoch is \(grouped($0)) steps" } ?? ", drawn afresh")
                + (difficulty.map { ", difficulty \($0.text)" } ?? "") + "; "
                + "\(threads(configuration.threads)), \(configuration.precision.rawValue)"
        )
        console.print("run folder: \(folder.relativePath)")
        if trainer.ending != nil {
            console.print("all \(grouped(firstStep)) steps are taken; train on with --resume and more --steps")
        } else if firstStep > 0 {
            console.print("going on from step \(grouped(firstStep))")
        }
        if trainer.configuration.optimizer == .adam, trainer.configuration.warmupSteps >= trainer.totalSteps {
            console.print(
                "note: the learning rate rises for \(grouped(trainer.configuration.warmupSteps)) steps, longer than the run; "
                    + "give fewer --warmup-steps")
        }
    }

    mutating func show(_ event: TrainingEvent, console: inout Console) {
        switch event {
        case .step(let step):
            if trainer.sequenceLength != sequenceLength {
                sequenceLength = trainer.sequenceLength
                console.print(
                    "step \(step.number): sequences of \(sequenceLength) from here on, \(trainer.batchSize) at a time")
            }
            if trainer.difficulty != difficulty, let now = trainer.difficulty {
                difficulty = now
                console.print("step \(step.number): lessons of difficulty \(now.text) from here on")
            }
            if step.gradientNorm == nil {
                console.print("step \(step.number): the gradient is not finite; the step is skipped")
            }
            loss = smooth(loss, step.loss)
            if step.tokens > 0 { accuracy = smooth(accuracy, step.accuracy) }
            tokensPerSecond = smooth(tokensPerSecond, Double(trainer.tokensPerStep) / step.seconds)
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
            // A program is longer than anyone reads while training goes on.
            let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).map { visible($0) }
            let shown = lines.prefix(24).map { "\n  | \($0)" } + (lines.count > 24 ? ["\n  | …"] : [])
            console.print("step \(step) makes:" + shown.joined())
        case .checkpoint(_, let url):
            console.print("saved \(url.relativePath)")
        case .warning(let step, let text): console.warn("step \(step): \(text)")
        }
    }

    /// How it ended, and where to go from there.
    func end(_ ending: Trainer.Ending, _ folder: URL, console: inout Console) {
        console.clearStatus()
        switch ending {
        case .completed: break
        case .outOfPatience:
            console.print(
                "stopped at step \(trainer.step): no validation loss below that of step \(trainer.best?.step ?? 0) since; "
                    + "the best model is \(folder.relativePath)/checkpoints/best")
        case .stopped:
            console.print(
                "stopped at step \(trainer.step); go on with: feedback train --resume \(folder.relativePath)")
        }
    }

    private func smooth(_ old: Double?, _ new: Double) -> Double { old.map { 0.95 * $0 + 0.05 * new } ?? new }

    private func line(_ step: Int) -> String {
        let elapsed = (ContinuousClock.now - start) / .seconds(1)
        let left = elapsed / Double(step - firstStep) * Double(trainer.totalSteps - step)
        var line = String(format: "step %d/%d  loss %.4f", step, trainer.totalSteps, loss ?? 0)
        if trainer.tokenizer.kind == .symbols {
            line += String(format: "  accuracy %.0f %%", 100 * (accuracy ?? 0))
        }
        if let validation { line += String(format: "  validation %.4f", validation.loss) }
        line += "  \(grouped(Int(tokensPerSecond ?? 0))) tokens/s  \(duration(left)) left"
        return line
    }
}

extension ClosedRange<Int> {
    /// As people write it.
    var text: String { lowerBound == upperBound ? "\(lowerBound)" : "\(lowerBound) to \(upperBound)" }
}
