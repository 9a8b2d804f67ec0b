/// What a training step spends its time on.
package enum TrainingPhase: String, CaseIterable, Sendable {
    case linearForward, linearBackward, weightGradients
    case attentionForward, attentionBackward
    /// The memory's weighted sum, and writing keys and values.
    case memory
    case embeddingAndLoss
    /// Packing the weights, and turning gradients of packed weights into gradients of parameters.
    case packing
    /// The sum over workers, clipping, Adam.
    case optimizer
    /// What is none of these: LayerNorm, the rectifier, conversions, waiting for the other workers.
    case other
}

/// A product of a linear map, and what becomes of its result.
enum ProductKind: Equatable {
    case forwardToOperand(rectified: Bool)
    case forward(accumulates: Bool)
    case backwardToOperand
    case backward(accumulates: Bool)
    case gradient

    var phase: TrainingPhase {
        switch self {
        case .forwardToOperand, .forward: .linearForward
        case .backwardToOperand, .backward: .linearBackward
        case .gradient: .weightGradients
        }
    }
    var rectifies: Bool { self == .forwardToOperand(rectified: true) }
    var accumulates: Bool {
        switch self {
        case .forward(let accumulates), .backward(let accumulates): accumulates
        case .forwardToOperand, .backwardToOperand: false
        case .gradient: true
        }
    }
}

/// One matrix product that a pass asked for.
package struct RecordedProduct<Linear: PackedLinear> {
    let kind: ProductKind
    let linear: Linear
    let rows: Int

    var operations: Double { 2 * Double(rows) * Double(linear.inputs) * Double(linear.outputs) }
}

/// Notes where an executor's time goes, and the products that it is asked for, in order.
package final class Recorder<Linear: PackedLinear> {
    fileprivate(set) var seconds: [TrainingPhase: Double] = [:]
    fileprivate(set) var products: [RecordedProduct<Linear>] = []
}

extension Executor {
    @inline(__always)
    func timed<Result>(_ phase: TrainingPhase, _ body: () -> Result) -> Result {
        guard let recorder else { return body() }
        let start = ContinuousClock.now
        defer { recorder.seconds[phase, default: 0] += (ContinuousClock.now - start) / .seconds(1) }
        return body()
    }

    @inline(__always)
    func recorded(_ kind: ProductKind, _ linear: Linear, rows: Int, _ body: () -> Void) {
        recorder?.products.append(RecordedProduct(kind: kind, linear: linear, rows: rows))
        timed(kind.phase, body)
    }
}
