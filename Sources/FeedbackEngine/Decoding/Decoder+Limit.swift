import FeedbackTransformer

extension Decoder {
    /// The reading of what a step reads at least once: the weights, the window's keys and values and distance biases.
    package func limit(sequences: Int) -> DeviceLimit? {
        let (D, F, L) = (configuration.dModel, configuration.dFF, configuration.layers)
        let keyValues = configuration.keyValue == .shared ? 1 : L
        let weights = L * (2 * D * D + 2 * D * F) + keyValues * 2 * D * D + configuration.vocabulary * D
        let positions = L * memoryWindow * D
        let bytes =
            Int(precision.weightBytes * Double(weights))
            + precision.memoryBytes * (positions + sequences * configuration.caches * memoryWindow * 2 * D)
        let bandwidth = ReadBandwidth(bytes: bytes, threads: team.count)
        return DeviceLimit(work: Double(bytes)) { Double(bytes) / bandwidth.bytesPerSecond() }
    }
}
