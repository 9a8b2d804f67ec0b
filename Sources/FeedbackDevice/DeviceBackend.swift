import FeedbackTransformer

/// Computes on a GPU, or on any other device with an OpenCL driver: a whole pass over a segment is one launch.
///
/// ```swift
/// let backend = try DeviceBackend(DeviceName("cuda")!)
/// let session = try backend.training(model, BatchShape(steps: 128, batchSize: 64))
/// ```
public struct DeviceBackend: Backend {
    let device: any ComputeDevice
    /// Whether operands are bfloat16, in training and in decoding; in evaluation they never are.
    let narrow, narrowDecoding: Bool

    /// Throws where there is no such device, or no driver for it, and says what is missing.
    ///
    /// - Parameters:
    ///   - name: of a device other than the CPU.
    ///   - narrow: whether training's operands are bfloat16; evaluation is always in float32.
    ///   - narrowDecoding: whether a decoder's weights, keys and values are.
    public init(_ name: DeviceName, narrow: Bool = false, narrowDecoding: Bool = false) throws(ConfigurationError) {
        device = try name.device()
        (self.narrow, self.narrowDecoding) = (narrow, narrowDecoding)
    }

    public func training(_ model: FeedbackModel, _ shape: BatchShape) throws -> any TrainingSession {
        try DevicePass(device, narrow: narrow, model.parameters, shape, training: true)
    }

    public func evaluation(_ model: FeedbackModel, _ shape: BatchShape) throws -> any EvaluationSession {
        try DevicePass(device, narrow: false, model.parameters, shape, training: false)
    }

    public func decoding(_ model: FeedbackModel, memoryWindow: Int) throws -> any DecodingSession {
        DeviceDecoder(
            try DecodingRoom(device, narrow: narrowDecoding, model.parameters, window: memoryWindow, sequences: 1))
    }

    public func footprint(_ model: ModelConfiguration, _ shape: BatchShape) -> Double {
        var (state, operands) = (Arena(), Arena())
        let sizes = PassSizes(model, shape, training: true)
        let table = ParameterTable(model)
        _ = WeightLayout(table, reach: sizes.reach, training: true, &state, &operands)
        _ = PassLayout(sizes, slices: device.slices, &state, &operands)
        return Double(4 * (state.count + 3 * table.count) + (narrow ? 2 : 4) * operands.count)
    }

    public var memoryCapacity: Double { Double(device.memory) }
}
