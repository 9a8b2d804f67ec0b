import Dispatch
import FeedbackRuns
import FeedbackTraining
import FeedbackTransformer
import Foundation
import HummingbirdCore
import Synchronization

/// Tells what a run's model looks at in a text. One question at a time, on a thread of its own: it computes.
final class AttentionReader: @unchecked Sendable {  // what is kept belongs to the queue
    private let queue = DispatchQueue(label: "attention")
    /// The model of the last question, where it came from, and of when it is.
    private var kept: (path: String, time: Date?, folder: ModelFolder)?
    private let waiting = Atomic(0)
    private let backend: any Backend

    private static let mostTokens = 256
    private static let mostWaiting = 8

    init(_ backend: any Backend) { self.backend = backend }

    /// - Parameter body: an object with the `text`.
    func answer(_ body: JSON, _ run: Run, _ connection: Connection) async throws -> Response {
        let parameters = try Parameters(body, known: ["text"])
        guard let text = try parameters.string("text"), !text.isEmpty else {
            throw APIError.invalid("text", "text is missing; give at least one character")
        }
        defer { waiting.subtract(1, ordering: .relaxed) }
        guard waiting.add(1, ordering: .relaxed).newValue <= Self.mostWaiting else {
            throw APIError(
                status: .serviceUnavailable, message: "others are asking; try again in a moment", code: "queue_full",
                headers: [.retryAfter: "1"])
        }
        let bytes = try await queue.result {
            if connection.isClosed { throw CancellationError() }
            return try self.weights(text, run)
        }
        return Response(type: "application/json", bytes)
    }

    private func weights(_ text: String, _ run: Run) throws -> [UInt8] {
        let folder = try model(run)
        let tokens: [Int32]
        do {
            tokens = try folder.tokenizer.encode(text)
        } catch {
            throw APIError.invalid("text", "\(error)")
        }
        guard (1...Self.mostTokens).contains(tokens.count) else {
            throw APIError.invalid(
                "text", "the text has \(tokens.count) tokens; it must have between 1 and \(Self.mostTokens)")
        }
        let configuration = folder.model.configuration
        let weights = try backend.attentionWeights(of: folder.model, tokens, memoryWindow: folder.memoryWindow)
        let answer: JSON = [
            "tokens": .array(tokens.map { .string(folder.tokenizer.decode([$0])) }),
            "layers": .integer(configuration.layers), "heads": .integer(configuration.heads),
            "weights": .array(
                weights.map { heads in
                    .array(heads.map { steps in .array(steps.map { row in .array(row.map(Self.rounded)) }) })
                }),
        ]
        return answer.bytes
    }

    /// To a millionth: nobody sees more, and there are many.
    private static func rounded(_ weight: Float) -> JSON { .number((Double(weight) * 1e6).rounded() / 1e6) }

    /// The model of the run's best checkpoint, or of its newest where none is the best.
    private func model(_ run: Run) throws(APIError) -> ModelFolder {
        let folder = URL(filePath: run.folder)
        let checkpoint = RunFolder.bestCheckpoint(of: folder) ?? RunFolder.newestCheckpoint(of: folder)
        guard let path = checkpoint?.path else {
            throw APIError(
                status: .conflict, message: "run \(run.id!) (\(run.name)) has no checkpoint", code: "no_checkpoint")
        }
        let attributes = try? FileManager.default.attributesOfItem(atPath: path)
        let time = attributes?[.modificationDate] as? Date
        if let kept, kept.path == path, kept.time == time { return kept.folder }
        do {
            let folder = try ModelFolder(contentsOf: URL(filePath: path))
            kept = (path, time, folder)
            return folder
        } catch {
            throw APIError(status: .conflict, message: "\(error)", code: "no_checkpoint")
        }
    }
}
