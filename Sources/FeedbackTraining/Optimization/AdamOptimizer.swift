import FeedbackEngine
import FeedbackTransformer

/// Adam with decoupled weight decay (E12) and clipping by the global norm (E11); equations in Operations/Optimizer.swift.
public final class AdamOptimizer {
    public struct Settings: Equatable, Sendable {
        public var beta1 = 0.9
        public var beta2 = 0.999
        public var epsilon = 1e-8
        /// λ, for matrices.
        public var weightDecay = 0.0
        /// The gradient's largest norm; 0 for no clipping.
        public var gradientClip = 1.0

        public init() {}
    }

    public let settings: Settings
    /// First and second moments.
    public let m, v: ParameterStore
    /// Updates made so far.
    public internal(set) var updates = 0

    public init(_ table: ParameterTable, settings: Settings, executor: any Executor = CPUExecutor()) {
        self.settings = settings
        m = ParameterStore(table, executor: executor)
        v = ParameterStore(table, executor: executor)
    }

    /// Back to the state before the first update.
    func reset() {
        updates = 0
        m.all.clear()
        v.all.clear()
    }

    /// Updates a pass's parameters from its gradient.
    ///
    /// - Returns: the gradient's norm before clipping. Where it is not finite nothing has been changed.
    public func update(_ pass: TrainingPass, learningRate: Double) -> Double {
        let norm = pass.gradientNorm()
        guard norm.isFinite else { return norm }
        updates += 1
        var step = AdamStep(learningRate: learningRate, number: updates)
        (step.beta1, step.beta2, step.epsilon) = (settings.beta1, settings.beta2, settings.epsilon)
        step.gradientScale = clipScale(norm: norm, limit: settings.gradientClip)
        pass.adam(m: m, v: v, step: step, decay: settings.weightDecay)
        return norm
    }
}
