import FeedbackTransformer
import Foundation

/// How much memory a training run takes, roughly, so that one that cannot fit is refused before it begins.
struct MemoryEstimate {
    let bytes: Double

    init(_ model: ModelConfiguration, steps: Int, batchSize: Int, carry: Int, threads: Int) {
        let (D, F, H, L) = (Double(model.dModel), Double(model.dFF), Double(model.heads), Double(model.layers))
        let (T, B, V, M) = (Double(steps), Double(batchSize), Double(model.vocabulary), Double(carry))
        let perLayer = 2 * D * D + 2 * D * F + Double(model.positions) * (D + H)
        let keyValue = 2 * D * D * (model.keyValue == .shared ? 1 : L)
        let parameters = V * D * 2 + L * perLayer + keyValue
        let kept = L * (4 * D + F + H * (M + T + 32)) + 4 * D + 2 * V + 6 * D
        let rows = min(B, Double(threads) * 32)
        // Parameters, two moments, packed twice, and a gradient a worker; what is kept for the backward pass.
        bytes = 4 * (parameters * (5 + min(B, Double(threads))) + T * rows * kept)
    }

    func check() throws(ConfigurationError) {
        let available = Double(ProcessInfo.processInfo.physicalMemory)
        guard bytes <= available else {
            func gibibytes(_ bytes: Double) -> String { String(format: "%.1f GiB", bytes / 0x1p30) }
            throw ConfigurationError(
                "these settings take about \(gibibytes(bytes)) of memory; this machine has \(gibibytes(available)). "
                    + "Use a smaller model, sequence-length or batch-size")
        }
    }
}
