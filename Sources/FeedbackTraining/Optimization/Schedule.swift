import FeedbackTransformer
import Foundation

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
