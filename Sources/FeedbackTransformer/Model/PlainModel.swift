import Foundation

// The whole model in one sitting: plain arrays, double precision, one sequence, one step at a time. E-numbers are those of
// Documentation/Equations.md, names those of a checkpoint. It is meant to be read, and it is what the tests hold the fast passes to,
// with which it shares nothing.

/// A model that reads a sequence token by token, and remembers.
///
/// ```swift
/// var model = PlainModel(folder.model)
/// let text = model.continuation(of: try folder.tokenizer.encode("ROMEO:"), tokens: 100)
/// ```
public struct PlainModel {
    private typealias Vector = [Double]

    private let model: ModelConfiguration
    private let memoryWindow: Int
    private let parameters: [String: [Double]]
    /// What has been remembered of every step so far: its key and its value; of all layers together where they share them, else of
    /// each layer.
    private var remembered: [[(key: Vector, value: Vector)]]

    /// - Parameters:
    ///   - model: the parameters.
    ///   - memoryWindow: how many memories a step sees at most; the model's own window where nil.
    public init(_ model: FeedbackModel, memoryWindow: Int? = nil) {
        self.model = model.configuration
        self.memoryWindow = min(memoryWindow ?? .max, self.model.window)
        let names = model.parameters.table.parameters.map(\.name)
        parameters = Dictionary(uniqueKeysWithValues: names.map { ($0, model.parameters[$0].map(Double.init)) })
        remembered = Array(repeating: [], count: self.model.caches)
    }

    // MARK: One step

    /// Reads a token and gives the logits [V] of the next.
    public mutating func step(_ token: Int32) -> [Double] {
        // E1: the embedding.
        var x = row(Int(token), of: "src_embed.weight")
        var outputs = [x]
        for l in 0..<model.layers {
            // E8 and E4: each block adds to what comes in.
            x = x + attention(x, layer: l)
            x = x + feedForward(x, layer: l)
            outputs.append(x)
        }
        switch model.memory {
        case .feedback:
            // E9: one memory for all layers, the weighted sum of what all of them have made of this step.
            let weights = softmax(parameters["transformer.weights"]!)
            let m = zip(weights, outputs).map { weight, output in output.map { weight * $0 } }.reduce(zeros, +)
            remember(Array(repeating: m, count: model.layers))
        case .feedbackLast: remember(Array(repeating: x, count: model.layers))
        // The ordinary transformer: each layer sees what came into it.
        case .perLayer: remember(Array(outputs.dropLast()))
        }
        return linear(norm(x, "transformer.norm"), "generator")
    }

    /// E5 to E8: what a layer finds in the memory; nothing at the very first step.
    private func attention(_ x: Vector, layer l: Int) -> Vector {
        let layer = "transformer.layers.\(l)"
        let memories = remembered[remembered.count == 1 ? 0 : l].suffix(memoryWindow)
        if memories.isEmpty { return zeros }
        let q = linear(norm(x, "\(layer).norm_self_attn"), "\(layer).attn.query.linear")
        let u = parameters["\(layer).attn.query_pos_bias"]!
        var context = zeros
        for head in 0..<model.heads {
            let columns = head * model.headSize..<(head + 1) * model.headSize
            // E5: how well each memory, o steps back, fits the query.
            let scores = memories.enumerated().map { index, memory in
                let row = model.positions - (memories.count - index)  // P − o
                let offset = self.row(row, of: "\(layer).attn.key_pos_embeddings")
                let bias = parameters["\(layer).attn.key_pos_bias"]![row * model.heads + head]
                let dot = columns.reduce(bias) { $0 + (q[$1] + u[$1]) * memory.key[$1] + q[$1] * offset[$1] }
                return dot / Double(model.headSize).squareRoot()
            }
            // E6 and E7: the mean of their values, weighted by that.
            for (weight, memory) in zip(softmax(scores), memories) {
                for d in columns { context[d] += weight * memory.value[d] }
            }
        }
        return linear(context, "\(layer).attn.output")
    }

    /// E4.
    private func feedForward(_ x: Vector, layer l: Int) -> Vector {
        let layer = "transformer.layers.\(l)"
        let hidden = linear(norm(x, "\(layer).norm_ff"), "\(layer).feed_forward.layer1").map { max(0, $0) }
        return linear(hidden, "\(layer).feed_forward.layer2")
    }

    /// Keys and values of this step's memory, which is the same for all layers but in a per-layer model.
    private mutating func remember(_ memory: [Vector]) {
        for index in remembered.indices {
            let prefix = model.keyValue == .shared ? "transformer" : "transformer.layers.\(index).attn"
            let n = model.memoryNorm == .layer ? norm(memory[index], "transformer.norm_memory") : memory[index]
            remembered[index].append((linear(n, "\(prefix).key.linear"), linear(n, "\(prefix).value.linear")))
        }
    }

    // MARK: A sequence

    /// Mean cross-entropy in nats of every token but the first, from the memory of those before it (E10).
    public mutating func loss(of tokens: [Int32]) -> Double {
        let losses = zip(tokens, tokens.dropFirst()).map { token, next in -log(softmax(step(token))[Int(next)]) }
        return losses.reduce(0, +) / Double(losses.count)
    }

    /// The tokens after some others, each the likeliest.
    public mutating func continuation(of tokens: [Int32], tokens count: Int) -> [Int32] {
        var (logits, found): ([Double], [Int32]) = ([], [])
        for token in tokens { logits = step(token) }
        while found.count < count {
            found.append(Int32(logits.indices.max { logits[$0] < logits[$1] }!))
            logits = step(found.last!)
        }
        return found
    }

    // MARK: Arithmetic

    private var zeros: Vector { Array(repeating: 0, count: model.dModel) }

    /// A row [D] of a table.
    private func row(_ index: Int, of name: String) -> Vector {
        Array(parameters[name]![index * model.dModel..<(index + 1) * model.dModel])
    }

    /// E2, with its gain and shift: γ ∘ (x − mean) / √(var + 1e-5) + β.
    private func norm(_ x: Vector, _ name: String) -> Vector {
        let mean = x.reduce(0, +) / Double(x.count)
        let variance = x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(x.count)
        let (gain, shift) = (parameters["\(name).weight"]!, parameters["\(name).bias"]!)
        let deviation = (variance + 1e-5).squareRoot()
        return x.indices.map { gain[$0] * ((x[$0] - mean) / deviation) + shift[$0] }
    }

    /// W x + b, of some maps without b.
    private func linear(_ x: Vector, _ name: String) -> Vector {
        let (weight, bias) = (parameters["\(name).weight"]!, parameters["\(name).bias"])
        return (0..<weight.count / x.count).map { o in
            let row = weight[o * x.count..<(o + 1) * x.count]
            return zip(row, x).reduce(bias?[o] ?? 0) { $0 + $1.0 * $1.1 }
        }
    }

    private func softmax(_ x: Vector) -> Vector {
        let exponentials = x.map { exp($0 - x.max()!) }
        let sum = exponentials.reduce(0, +)
        return exponentials.map { $0 / sum }
    }
}

/// Element by element.
private func + (a: [Double], b: [Double]) -> [Double] { zip(a, b).map { $0 + $1 } }
