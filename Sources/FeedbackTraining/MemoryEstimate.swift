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

    /// Throws where a run does not fit this machine, saying what would.
    static func check(
        _ model: ModelConfiguration, steps: Int, batchSize: Int, carry: Int, threads: Int,
        available: Double = Double(ProcessInfo.processInfo.physicalMemory)
    ) throws(ConfigurationError) {
        func bytes(_ batchSize: Int) -> Double {
            MemoryEstimate(model, steps: steps, batchSize: batchSize, carry: carry, threads: threads).bytes
        }
        if bytes(batchSize) <= available { return }
        func gibibytes(_ bytes: Double) -> String { String(format: "%.1f GiB", bytes / 0x1p30) }
        // More rows never take less.
        var (fits, exceeds) = (0, batchSize)
        while exceeds - fits > 1 {
            let middle = (fits + exceeds) / 2
            if bytes(middle) <= available { fits = middle } else { exceeds = middle }
        }
        throw ConfigurationError(
            "these settings take about \(gibibytes(bytes(batchSize))) of memory; this machine has \(gibibytes(available)). "
                + (fits > 0 ? "A batch-size of \(fits) would fit" : "Use a smaller model or sequence-length"))
    }
}
