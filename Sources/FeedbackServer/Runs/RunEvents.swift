import FeedbackRuns
import FeedbackTransformer

/// What has changed in the history since one looked last, as server-sent events.
struct RunEvents: Sendable {
    /// How much of a run has been told: the last step of each kind of row. A step's validation, sample and checkpoint may be
    /// written after the step itself.
    private struct Followed: Sendable {
        let id: Int64
        var steps, validations, samples, checkpoints: Int

        /// - Parameter step: what the reader knows; of that step itself, it may lack what came after.
        init(id: Int64, after step: Int) {
            self.id = id
            steps = step
            (validations, samples, checkpoints) = (step &- 1, step &- 1, step &- 1)
        }

        /// Removes what has been told, and remembers the rest as told.
        mutating func take(_ metrics: inout RunMetrics) {
            metrics.steps.removeAll { $0.step <= steps }
            metrics.validations.removeAll { $0.step <= validations }
            metrics.samples.removeAll { $0.step <= samples }
            metrics.checkpoints.removeAll { $0.step <= checkpoints }
            steps = metrics.steps.last?.step ?? steps
            validations = metrics.validations.last?.step ?? validations
            samples = metrics.samples.last?.step ?? samples
            checkpoints = metrics.checkpoints.last?.step ?? checkpoints
        }

        /// From where rows may be new: at the last step, of which more may have come.
        var after: Int { steps &- 1 }

        /// A run that has been resumed from an earlier step goes on from there.
        mutating func goBack(to step: Int) {
            if step < steps { self = Followed(id: id, after: step) }
        }
    }
    private let reader: RunReader
    private var followed: [Followed] = []
    /// What has been told: the version of the summaries, and what each run was then.
    private var version: Int?
    private var told: [Int64: RunReader.Snapshot.State] = [:]

    /// - Parameters:
    ///   - runs: ids, separated by commas.
    ///   - after: for each of them the last step that is known, -1 for none.
    init(_ reader: RunReader, _ runs: String?, _ after: String?) throws(APIError) {
        self.reader = reader
        let ids = (runs ?? "").split(separator: ",").map { Int64($0) }
        let steps = (after ?? "").split(separator: ",").map { Int($0) }
        guard !ids.contains(nil), ids.count <= 100 else {
            throw .invalid("runs", "runs must be at most 100 ids, separated by commas")
        }
        guard !steps.contains(nil), steps.count <= ids.count else {
            throw .invalid("after", "after must be a step for each of the runs, separated by commas")
        }
        for (index, id) in ids.compactMap(\.self).enumerated() {
            followed.append(Followed(id: id, after: index < steps.count ? max(-1, steps[index]!) : -1))
        }
    }

    /// The events since the last time; empty where there are none. Only runs that have changed are read. The summaries are read
    /// first: the rows that come with a run's end are there by the time that it is seen to have ended.
    mutating func next() throws -> [UInt8] {
        let snapshot = try reader.snapshot()
        if snapshot.version == version { return [] }
        var bytes: [UInt8] = []
        for index in followed.indices {
            let state = snapshot.states[followed[index].id]
            if version != nil && told[followed[index].id] == state { continue }
            told[followed[index].id] = state
            if let state { followed[index].goBack(to: state.step) }
            var metrics = try reader.metrics(followed[index].id, after: followed[index].after)
            followed[index].take(&metrics)
            if metrics.steps.isEmpty && metrics.validations.isEmpty && metrics.samples.isEmpty
                && metrics.checkpoints.isEmpty
            {
                continue
            }
            let news = [JSON.Member(name: "id", value: .integer(Int(followed[index].id)))] + RunReader.members(metrics)
            bytes += Self.event("news", .object(news))
        }
        version = snapshot.version
        return bytes + snapshot.event
    }

    static func event(_ name: String, _ data: JSON) -> [UInt8] {
        var bytes = Array("event: \(name)\ndata: ".utf8)
        data.write(into: &bytes)
        return bytes + "\n\n".utf8
    }
}
