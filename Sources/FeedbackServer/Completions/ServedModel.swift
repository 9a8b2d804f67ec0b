import FeedbackTransformer
import Foundation

/// A model that answers requests by its name.
final class ServedModel: Sendable {
    let id: String
    let loop: DecodingLoop
    let folder: ModelFolder
    private let limits: CompletionLimits
    private let created = Int(Date().timeIntervalSince1970)

    init(_ id: String, _ folder: ModelFolder, _ options: DecodingLoop.Options, _ limits: CompletionLimits) throws {
        self.id = id
        self.folder = folder
        self.limits = limits
        loop = try DecodingLoop(folder, options)
    }

    var json: JSON {
        ["id": .string(id), "object": "model", "created": .integer(created), "owned_by": "feedback"]
    }

    /// The continuations that a request asks for, those of the first prompt first. Throws on a prompt that this model cannot
    /// continue.
    func generations(_ request: CompletionRequest) throws(APIError) -> [Generation] {
        var generations: [Generation] = []
        let seed = request.seed.map { UInt64(bitPattern: Int64($0)) } ?? UInt64.random(in: .min ... .max)
        for (index, prompt) in request.prompts.enumerated() {
            let name = request.prompts.count == 1 ? "prompt" : "prompt[\(index)]"
            let tokens = try tokens(prompt, name)
            // The words that the model is given may differ from those of the request, in case for example.
            let text = folder.tokenizer.decode(tokens)
            for choice in 0..<request.choicesPerPrompt {
                generations.append(
                    Generation(
                        prompt: tokens, promptText: text, maxTokens: request.maxTokens,
                        sampler: try sampler(request, seed: seed &+ UInt64(choice)), stops: request.stops,
                        logprobs: request.logprobs, tellsPromptLogprobs: request.echo && request.logprobs != nil))
            }
        }
        return generations
    }

    private func tokens(_ prompt: CompletionRequest.Prompt, _ name: String) throws(APIError) -> [Int32] {
        let tokens: [Int32]
        switch prompt {
        case .text(let text):
            do {
                tokens = try folder.tokenizer.encode(text)
            } catch {
                throw .invalid("prompt", "\(name): \(error)")
            }
        case .tokens(let ids):
            let size = folder.tokenizer.vocabularySize
            if let wrong = ids.first(where: { $0 < 0 || $0 >= size }) {
                throw .invalid("prompt", "\(name) has the token \(wrong); this model's are 0 to \(size - 1)")
            }
            tokens = ids.map(Int32.init)
        }
        guard !tokens.isEmpty else {
            throw .invalid("prompt", "\(name) is empty; give at least one token to continue")
        }
        guard tokens.count <= limits.tokens else {
            throw .invalid("prompt", "\(name) has \(tokens.count) tokens; at most \(limits.tokens) are allowed")
        }
        return tokens
    }

    private func sampler(_ request: CompletionRequest, seed: UInt64) throws(APIError) -> Sampler {
        do {
            // A top_p of 0 leaves the likeliest token, as the least one above 0 does.
            return try Sampler(
                temperature: request.temperature, topK: request.topK,
                topP: request.topP.map { max($0, .leastNonzeroMagnitude) }, minP: request.minP, seed: seed)
        } catch {
            throw .invalid(nil, "\(error)")
        }
    }
}
