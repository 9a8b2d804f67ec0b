import FeedbackTransformer
import Foundation

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

    /// As a run's settings have it.
    init(_ configuration: RunConfiguration) {
        var settings = Settings()
        settings.beta2 = configuration.beta2
        settings.weightDecay = configuration.weightDecay
        settings.gradientClip = configuration.gradientClip
        self.init(settings)
    }

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

/// E13: how the learning rate follows the optimizer's steps t = 1, 2, …
public enum Schedule: Equatable, Sendable {
    /// Linear warm-up to `peak`, then half a cosine down to `minimum` at the last step (Loshchilov & Hutter 2017):
    /// η(t) = peak · t / warmup, then minimum + ½ (peak − minimum)(1 + cos(π (t − warmup) / (total − warmup))).
    case cosine(peak: Double, minimum: Double, warmup: Int, total: Int)
    /// η(t) = factor · D^-½ · min(t^-½, t · warmup^-1.5) (Vaswani et al. 2017, equation 3).
    case noam(factor: Double, dModel: Int, warmup: Int)

    public func learningRate(step t: Int) -> Double {
        switch self {
        case .cosine(let peak, let minimum, let warmup, let total):
            if t <= warmup { return peak * Double(t) / Double(warmup) }
            if t >= total { return minimum }
            let passed = Double(t - warmup) / Double(total - warmup)
            return minimum + 0.5 * (peak - minimum) * (1 + cos(.pi * passed))
        case .noam(let factor, let dModel, let warmup):
            let t = Double(t)
            return factor * pow(Double(dModel), -0.5) * min(pow(t, -0.5), t * pow(Double(max(1, warmup)), -1.5))
        }
    }
}
