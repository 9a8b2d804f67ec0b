import CKernels
import COneDNN

/// The type of an executor's operands: what enters its matrix products and is kept for the backward pass.
///
/// Parameters, the residual stream, gradients and all sums are float32 either way.
public enum Precision: String, CaseIterable, Sendable {
    case float32
    case bfloat16

    /// Whether this CPU and this oneDNN compute in this type.
    public var isSupported: Bool { self == .float32 || feedback_has_fast(FEEDBACK_BFLOAT16) }

    var format: feedback_format { self == .bfloat16 ? FEEDBACK_BFLOAT16 : FEEDBACK_FLOAT32 }

    /// The speed of products in this type, divided by their speed in float32: measured when called, in some milliseconds, in
    /// the shape of a recurrent step. Some CPUs that multiply bfloat16 are no faster at it.
    public func speedOverFloat32() -> Double {
        let times = [self, .float32].map { precision in
            let executor = CPUExecutor(precision)
            let map = executor.makeLinear(inputs: 512, outputs: 512)
            let weight = executor.state(512, 512)
            executor.pack(map, weight: weight.all, bias: nil, norm: nil, scale: 1)
            let (x, y) = (executor.operand(16, 512), executor.state(16, 512))
            return (0..<12).map { _ in
                ContinuousClock().measure { executor.linear(x.all, map, into: y.all) }
            }.min()!
        }
        return times[1] / times[0]
    }
}
