import FeedbackTransformer
import Foundation

extension Backend {
    /// Throws where training does not fit the device, saying what would.
    func checkFit(_ model: ModelConfiguration, _ shape: BatchShape) throws(ConfigurationError) {
        let available = memoryCapacity
        func bytes(_ batchSize: Int) -> Double {
            var other = shape
            other.batchSize = batchSize
            return footprint(model, other)
        }
        if bytes(shape.batchSize) <= available { return }
        func gibibytes(_ bytes: Double) -> String { String(format: "%.1f GiB", bytes / 0x1p30) }
        // More rows never take less.
        var (fits, exceeds) = (0, shape.batchSize)
        while exceeds - fits > 1 {
            let middle = (fits + exceeds) / 2
            if bytes(middle) <= available { fits = middle } else { exceeds = middle }
        }
        throw ConfigurationError(
            "these settings take about \(gibibytes(bytes(shape.batchSize))) of memory; there are \(gibibytes(available)). "
                + (fits > 0 ? "A batch-size of \(fits) would fit" : "Use a smaller model or sequence-length"))
    }
}
