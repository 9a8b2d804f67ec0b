import FeedbackTransformer
import Foundation

/// Computes on the CPU: the fast backend.
///
/// ```swift
/// let session = try CPUBackend(threads: 2).training(model, BatchShape(steps: 64, batchSize: 12))
/// let sum = session.gradient(of: [batch], dropout: nil)
/// print(sum.loss / Double(sum.targets), session.read(.gradient)["generator.bias"])
/// ```
public struct CPUBackend: Backend {
    /// How many threads share a session's work, the calling one included. Useful up to the number of free cores.
    public var threads: Int
    /// Of training's operands; evaluation is always in float32.
    public var precision: Precision
    /// Of a decoder's weights and memories.
    public var decodingPrecision: DecodingPrecision
    /// Who computes products with packed weights, where not the fastest.
    package var products: CPUExecutor.Products?
    public var communicator: any Communicator = OneProcess()

    public init(
        threads: Int = 1, precision: Precision = .float32, decodingPrecision: DecodingPrecision = .float32
    ) {
        precondition(threads > 0, "a CPU of \(threads) threads")
        self.threads = threads
        self.precision = precision
        self.decodingPrecision = decodingPrecision
    }

    public func training(_ model: FeedbackModel, _ shape: BatchShape) throws -> any TrainingSession {
        guard precision.isSupported else {
            throw ConfigurationError("this CPU does not compute in \(precision.rawValue); use --precision float32")
        }
        // Of unequal ranks one may be without a row.
        let threads = communicator.allGather([threads]).map { $0[0] }
        guard GradientReduction.workers(threads, rows: shape.batchSize).allSatisfy({ !$0.isEmpty }) else {
            throw ConfigurationError(
                "\(threads.count) ranks cannot share a batch of \(shape.batchSize) rows; start fewer, or give a larger batch-size"
            )
        }
        return pass(model, shape, precision, training: true)
    }
    public func evaluation(_ model: FeedbackModel, _ shape: BatchShape) -> any EvaluationSession {
        pass(model, shape, .float32, training: false)
    }

    private func pass(
        _ model: FeedbackModel, _ shape: BatchShape, _ precision: Precision, training: Bool
    ) -> TrainingPass<CPUExecutor> {
        let all = communicator.allGather([threads]).map { $0[0] }
        let isShared = GradientReduction.workers(all, rows: shape.batchSize).allSatisfy { !$0.isEmpty }
        let pass = TrainingPass(
            ParameterStore(model.parameters.table, executor: CPUExecutor()), shape,
            threads: isShared ? threads : all.reduce(0, +), training: training,
            communicator: isShared ? communicator : OneProcess()
        ) { [products] in CPUExecutor(precision, products: products ?? .best(precision)) }
        pass.write(model.parameters)
        return pass
    }

    public func decoding(_ model: FeedbackModel, memoryWindow: Int) -> any DecodingSession {
        Decoder(model, memoryWindow: memoryWindow, precision: decodingPrecision, threads: threads)
    }

    /// The machine's memory, or what a limit leaves of it.
    public var memoryCapacity: Double {
        Self.memoryLimits.reduce(Double(ProcessInfo.processInfo.physicalMemory), min)
    }

    /// Of the process (`ulimit -v`), of its control group, as in a container, and of the groups that this is in.
    private static var memoryLimits: [Double] {
        #if os(Linux)
            var own = rlimit()
            let isKnown = getrlimit(Int32(RLIMIT_AS.rawValue), &own) == 0 && own.rlim_cur != .max
            let groups = (try? String(contentsOfFile: "/proc/self/cgroup", encoding: .utf8)) ?? ""
            let path = groups.split(separator: "\n").first { $0.hasPrefix("0::/") }?.dropFirst(4) ?? ""
            let parts = path.split(separator: "/")
            let ofGroups = (0...parts.count).compactMap { depth in
                let file = (["/sys/fs/cgroup"] + parts.prefix(depth) + ["memory.max"]).joined(separator: "/")
                return (try? String(contentsOfFile: file, encoding: .utf8)).flatMap { Double($0.dropLast()) }
            }
            return (isKnown ? [Double(own.rlim_cur)] : []) + ofGroups
        #else
            return []
        #endif
    }

    public func footprint(_ model: ModelConfiguration, _ batch: BatchShape) -> Double {
        let (D, F, H, L) = (Double(model.dModel), Double(model.dFF), Double(model.heads), Double(model.layers))
        let (T, B, V, M) = (Double(batch.steps), Double(batch.batchSize), Double(model.vocabulary), Double(batch.carry))
        let perLayer = 2 * D * D + 2 * D * F + Double(model.positions) * (D + H)
        let keyValue = 2 * D * D * (model.keyValue == .shared ? 1 : L)
        let parameters = V * D * 2 + L * perLayer + keyValue
        let ofLayers = L * (4 * D + F + H * (M + T + 32))
        let workers = min(B, Double(threads))
        let shape = SegmentShape(model, batch)
        let rows = min((B / workers).rounded(.up), Double(shape.tileRows))
        // Parameters, two moments, packed twice, and a gradient a worker; what is kept of all steps, and of a span.
        let kept =
            T * rows * (ofLayers + 10 * D + 2 * V) + Double(shape.span(rows: Int(rows))) * rows * (ofLayers + 2 * D)
        return 4 * (parameters * (5 + workers) + workers * kept)
    }
}
