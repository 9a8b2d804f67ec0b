import FeedbackDevice
import FeedbackEngine
import FeedbackTransformer

extension DeviceName {
    /// What computes there. Throws where the device is not there, or does not compute so.
    ///
    /// - Parameters:
    ///   - threads: the CPU's.
    ///   - precision: of training's operands; evaluation is always in float32.
    ///   - decodingPrecision: of a decoder's weights and memories; other devices than the CPU have no int8.
    public func backend(
        threads: Int, precision: Precision = .float32, decodingPrecision: DecodingPrecision = .float32
    ) throws(ConfigurationError) -> any Backend {
        if driver == .cpu {
            return CPUBackend(threads: threads, precision: precision, decodingPrecision: decodingPrecision)
        }
        guard decodingPrecision != .int8 else {
            throw ConfigurationError("\(self) does not decode in int8; use --precision bfloat16, or --device cpu")
        }
        return try DeviceBackend(
            self, narrow: precision == .bfloat16, narrowDecoding: decodingPrecision == .bfloat16)
    }
}
