import FeedbackRuns
import FeedbackTransformer
import Foundation
import Synchronization

/// The history of runs as JSON.
final class RunReader: Sendable {
    private let store: RunStore
    /// By run: small pictures of the loss, and the step that they go up to.
    private let sparklines = Mutex<[Int64: (step: Int, losses: JSON)]>([:])

    /// Points of a curve at most.
    private static let mostSteps = 4000
    private static let mostSamples = 200

    init(_ store: RunStore) { self.store = store }

    /// The runs as they were at most a moment ago.
    struct Snapshot: Sendable {
        /// Grows with every change.
        var version = 0
        var summaries: JSON = .null
        /// They as an event: of a hundred runs it is long, and the same for all.
        var event: [UInt8] = []
        /// When each run's rows were last written, and its step.
        var states: [Int64: State] = [:]
        struct State: Equatable, Sendable {
            var updated: Double
            var step: Int
        }
    }
    private let latest = Mutex<(time: ContinuousClock.Instant, snapshot: Snapshot)?>(nil)

    /// What all who follow the history are told of: read twice a second at most, however many they are.
    func snapshot() throws -> Snapshot {
        try latest.withLock { latest in
            if let latest, ContinuousClock.now - latest.time < .milliseconds(400) { return latest.snapshot }
            let runs = try store.runs()
            var snapshot = latest?.snapshot ?? Snapshot()
            let summaries: JSON = ["runs": .array(try runs.map { .object(try summary($0)) })]
            if summaries != snapshot.summaries {
                let states = runs.map { ($0.id!, Snapshot.State(updated: $0.updated, step: $0.step)) }
                snapshot = Snapshot(
                    version: snapshot.version + 1, summaries: summaries, event: RunEvents.event("runs", summaries),
                    states: Dictionary(uniqueKeysWithValues: states))
            }
            latest = (.now, snapshot)
            return snapshot
        }
    }

    func runs() throws -> JSON { ["runs": .array(try store.runs().map { .object(try summary($0)) })] }

    func run(_ id: String) throws -> Run {
        guard let number = Int64(id), let run = try store.runs().first(where: { $0.id == number }) else {
            throw APIError(status: .notFound, message: "there is no run \(id)", code: "run_not_found")
        }
        return run
    }

    func detail(_ run: Run) throws -> JSON {
        let settings = run.configuration.sorted { $0.key < $1.key }
        let more: [JSON.Member] = [
            .init(name: "configuration", value: .object(settings.map { .init(name: $0, value: .string($1)) })),
            .init(name: "revision", value: JSON(run.revision)), .init(name: "machine", value: .string(run.machine)),
            .init(name: "host", value: .string(run.host)),
        ]
        let metrics = try store.metrics(run.id!, most: Self.mostSteps)
        return .object([.init(name: "run", value: .object(try summary(run) + more))] + Self.members(metrics))
    }

    func metrics(_ id: Int64, after step: Int) throws -> RunMetrics {
        try store.metrics(id, after: step, most: Self.mostSteps)
    }

    // MARK: Parts

    private func summary(_ run: Run) throws -> [JSON.Member] {
        let values: [(String, JSON)] = [
            ("id", .integer(Int(run.id!))), ("name", .string(run.name)), ("folder", .string(run.folder)),
            ("state", .string(run.state().rawValue)), ("created", .number(run.created)),
            ("updated", .number(run.updated)), ("ended", JSON(run.ended)), ("step", .integer(run.step)),
            ("totalSteps", .integer(run.totalSteps)), ("loss", JSON(run.loss)), ("validation", JSON(run.validation)),
            ("bestValidation", JSON(run.bestValidation)), ("tokensPerSecond", JSON(run.tokensPerSecond)),
            ("failure", JSON(run.failure)), ("sparkline", try sparkline(run)),
        ]
        return values.map { JSON.Member(name: $0, value: $1) }
    }

    /// While a run goes on, its picture may be behind by one of its points: each anew reads all steps.
    private func sparkline(_ run: Run) throws -> JSON {
        if let known = sparklines.withLock({ $0[run.id!] }) {
            let late = run.step &- known.step
            if late == 0 || run.status == .running && late > 0 && late < known.step / 60 { return known.losses }
        }
        let losses = JSON.array(try store.losses(run.id!, points: 60).map(JSON.number))
        sparklines.withLock { $0[run.id!] = (run.step, losses) }
        return losses
    }

    /// Steps as columns, the other rows as objects.
    static func members(_ metrics: RunMetrics) -> [JSON.Member] {
        func column(_ value: (RunMetrics.Step) -> JSON) -> JSON { .array(metrics.steps.map(value)) }
        let columns: JSON = [
            "step": column { .integer($0.step) }, "time": column { .number($0.time) },
            "loss": column { .number($0.loss) }, "learningRate": column { .number($0.learningRate) },
            "gradientNorm": column { JSON($0.gradientNorm) },
            "tokensPerSecond": column { .number(Double($0.tokens) / $0.seconds) },
            "accuracy": column { .number($0.accuracy) },
        ]
        let validations = metrics.validations.map { row -> JSON in
            [
                "step": .integer(row.step), "time": .number(row.time), "loss": .number(row.loss),
                "bitsPerCharacter": .number(row.bitsPerCharacter), "perplexity": .number(row.perplexity),
                "accuracy": .number(row.accuracy),
                "layerWeights": row.layerWeights.map { .array($0.map(JSON.number)) } ?? .null,
            ]
        }
        let samples = metrics.samples.suffix(mostSamples).map { row -> JSON in
            ["step": .integer(row.step), "time": .number(row.time), "text": .string(row.text)]
        }
        let checkpoints = metrics.checkpoints.map { row -> JSON in
            ["step": .integer(row.step), "time": .number(row.time), "path": .string(row.path)]
        }
        return [
            .init(name: "steps", value: columns), .init(name: "validations", value: .array(validations)),
            .init(name: "samples", value: .array(samples)), .init(name: "checkpoints", value: .array(checkpoints)),
        ]
    }
}
