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
        let ofLayers = L * (4 * D + F + H * (M + T + 32))
        let workers = min(B, Double(threads))
        let shape = SegmentShape(model: model, steps: steps, carry: carry, window: model.window)
        let rows = min((B / workers).rounded(.up), Double(shape.tileRows))
        // Parameters, two moments, packed twice, and a gradient a worker; what is kept of all steps, and of a span.
        let kept =
            T * rows * (ofLayers + 10 * D + 2 * V) + Double(shape.span(rows: Int(rows))) * rows * (ofLayers + 2 * D)
        bytes = 4 * (parameters * (5 + workers) + workers * kept)
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
