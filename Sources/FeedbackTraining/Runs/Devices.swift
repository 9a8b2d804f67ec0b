import FeedbackDevice
import FeedbackEngine
import FeedbackTransformer

extension DeviceName {
    /// What computes there. Throws where the device is not there, or does not compute so.
    ///
    /// - Parameters:
    ///   - threads: the CPU's.
    ///   - precision: of training's operands; evaluation is always in float32.
    ///   - decodingPrecision: of a decoder's weights and memories; other devices than the CPU have float32 alone.
    public func backend(
        threads: Int, precision: Precision = .float32, decodingPrecision: DecodingPrecision = .float32
    ) throws(ConfigurationError) -> any Backend {
        if driver == .cpu {
            return CPUBackend(threads: threads, precision: precision, decodingPrecision: decodingPrecision)
        }
        guard decodingPrecision == .float32 else {
            throw ConfigurationError(
                "\(self) decodes in float32 alone; leave out --precision \(decodingPrecision.rawValue), or --device")
        }
        return try DeviceBackend(self, narrow: precision == .bfloat16)
    }
}
