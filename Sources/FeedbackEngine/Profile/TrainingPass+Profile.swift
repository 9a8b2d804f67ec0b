import FeedbackTransformer

extension TrainingPass {
    /// The phases are the mean over the workers; the limit is the time of the step's matrix products alone.
    package func profile(_ step: () -> Void) -> StepProfile? {
        let recorders = workers.map { _ in Recorder<E.Linear>() }
        for (worker, recorder) in zip(workers, recorders) { worker.executor.recorder = recorder }
        let seconds = ContinuousClock().measure(step) / .seconds(1)
        for worker in workers { worker.executor.recorder = nil }
        var phases: [TrainingPhase: Double] = [:]
        for (phase, seconds) in recorders.flatMap(\.seconds) {
            phases[phase, default: 0] += seconds / Double(recorders.count)
        }
        phases[.other] = seconds - phases.values.reduce(0, +)
        let (products, makeExecutor) = (recorders.map(\.products), makeExecutor)
        var replay: ProductReplay<E>?
        return StepProfile(
            phases: Dictionary(uniqueKeysWithValues: phases.map { ($0.rawValue, $1) }),
            limit: DeviceLimit(work: products.joined().reduce(0) { $0 + $1.operations }) {
                if replay == nil { replay = ProductReplay(products, makeExecutor: makeExecutor) }
                return ContinuousClock().measure { replay!.run() } / .seconds(1)
            })
    }
}
