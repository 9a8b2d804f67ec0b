import Dispatch
import FeedbackTransformer
import Foundation
import Synchronization

/// Generates many continuations at once, on a thread of its own: they join and leave the running batch between steps, and a
/// prompt is taken in a token a step like what follows it. Each has its own memory and its own random numbers, and a row's
/// logits do not depend on the rows beside it, so the same request gives the same text whatever else is going on.
final class DecodingLoop: Sendable {
    struct Options: Sendable {
        var backend: any Backend
        /// Continuations at a time.
        var batch = 64
        /// Continuations that wait for a place.
        var queue = 256
    }

    private struct State {
        var waiting: [GenerationJob] = []
        var running = 0
        var isStopping = false
        var isStopped = false
        var metrics = DecodingMetrics()
    }
    private let folder: ModelFolder
    private let options: Options
    private let state = Mutex(State())
    /// Signalled whenever there may be something to do.
    private let wake = DispatchSemaphore(value: 0)

    /// Starts the thread; it runs until `stop`. Throws where the backend cannot compute the model.
    init(_ folder: ModelFolder, _ options: Options) throws {
        self.folder = folder
        self.options = options
        // Handed over once, to the thread that uses it from then on.
        nonisolated(unsafe) let session = try options.backend.decoding(folder.model, memoryWindow: folder.memoryWindow)
        let thread = Thread { [self] in run(session) }
        thread.name = "decoding"
        thread.start()
    }

    var metrics: ModelMetrics {
        state.withLock { state in
            ModelMetrics(
                counted: state.metrics, waiting: state.waiting.count { !$0.ticket.isCancelled },
                running: state.running)
        }
    }

    /// Queues continuations that belong together. Throws where there is no room for all of them.
    func submit(_ generations: [Generation]) throws(APIError) -> GenerationTicket {
        let ticket = GenerationTicket(count: generations.count)
        let jobs = generations.enumerated().map { index, generation in
            GenerationJob(generation, index: index, tokenizer: folder.tokenizer, ticket: ticket)
        }.filter { !$0.endIfEmpty() }
        let refusal: APIError? = state.withLock { state in
            if state.isStopping { return .stopping }
            state.waiting.removeAll(where: \.ticket.isCancelled)
            guard state.running + state.waiting.count + jobs.count <= options.batch + options.queue else {
                return APIError(
                    status: .serviceUnavailable, message: "the server is busy; try again in a moment",
                    code: "queue_full", headers: [.retryAfter: "1"])
            }
            state.waiting += jobs
            return nil
        }
        if let refusal { throw refusal }
        wake.signal()
        return ticket
    }

    /// From here on nothing new is taken.
    func drain() { state.withLock { $0.isStopping = true } }

    /// Ends everything that waits or runs, and the thread.
    func stop() {
        state.withLock { ($0.isStopping, $0.isStopped) = (true, true) }
        wake.signal()
    }

    // MARK: The thread

    private func run(_ session: any DecodingSession) {
        var running: [GenerationJob] = []
        while admit(into: &running, session) {
            if running.isEmpty {
                wake.wait()
                continue
            }
            let steps = running.map(\.step)
            let logits = session.step(steps.map(\.sequence), tokens: steps.map(\.token))
            let now = ContinuousClock.now
            var step = StepMetrics()
            var left: [GenerationJob] = []
            left.reserveCapacity(running.count)
            for (job, logits) in zip(running, logits) where job.advance(logits, at: now, &step) { left.append(job) }
            running = left
            state.withLock { $0.metrics.add(step) }
        }
        for job in running { job.fail(.stopping) }
    }

    /// Lets go of what nobody wants any more, and fills the batch from the queue. False where all is to end.
    private func admit(into running: inout [GenerationJob], _ session: any DecodingSession) -> Bool {
        running.removeAll(where: \.ticket.isCancelled)
        let (admitted, goesOn) = state.withLock { state in
            state.waiting.removeAll(where: \.ticket.isCancelled)
            let count = state.isStopped ? state.waiting.count : min(options.batch - running.count, state.waiting.count)
            let admitted = Array(state.waiting.prefix(count))
            state.waiting.removeFirst(count)
            state.running = state.isStopped ? 0 : running.count + count
            return (admitted, !state.isStopped)
        }
        running += admitted
        if goesOn { for job in admitted { job.begin(session) } }
        return goesOn
    }
}
