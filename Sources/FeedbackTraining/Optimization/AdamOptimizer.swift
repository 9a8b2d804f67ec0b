import FeedbackTransformer

/// Adam with decoupled weight decay (E12) and clipping by the global norm (E11). Its moments are the session's.
public struct AdamOptimizer {
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
    /// Updates made so far.
    public internal(set) var updates = 0

    public init(_ settings: Settings) { self.settings = settings }

    /// Updates a session's parameters from its gradient.
    ///
    /// - Returns: the gradient's norm before clipping. Where it is not finite nothing has been changed.
    public mutating func update(_ session: any TrainingSession, learningRate: Double) -> Double {
        let norm = session.gradientNorm()
        guard norm.isFinite else { return norm }
        updates += 1
        var step = AdamStep(learningRate: learningRate, number: updates)
        (step.beta1, step.beta2, step.epsilon) = (settings.beta1, settings.beta2, settings.epsilon)
        step.gradientScale = clipScale(norm: norm, limit: settings.gradientClip)
        session.update(step, decay: settings.weightDecay)
        return norm
    }
}

/// c = min(1, limit / (norm + 1e-6)). A limit of zero means no clipping.
func clipScale(norm: Double, limit: Double) -> Double {
    limit > 0 ? min(1, limit / (norm + 1e-6)) : 1
}
