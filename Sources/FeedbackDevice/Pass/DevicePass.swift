import CDevice
import FeedbackTransformer
import Foundation

/// Loss and gradients of a batch on a device. A batch is two launches, a pass forward and one backward, and a few for
/// the sums over all of its rows.
final class DevicePass: TrainingSession {
    let shape: BatchShape
    let weights: DeviceWeights
    let layout: PassLayout
    /// g, m and v; none where the pass only evaluates.
    private let trained: (gradient: Int, first: Int, second: Int)?
    /// Partial sums: of da_l, `parts` each, then of Σ g², one a group.
    private let partials: Int
    private let parts = 32
    private let integers: any DeviceArray
    private var program: PassProgram?
    /// Seconds by what they were spent on, while a step is profiled.
    var phases: [String: Double]?
    var carried = 0

    var device: any ComputeDevice { weights.device }
    var sizes: PassSizes { layout.sizes }
    var model: ModelConfiguration { sizes.model }
    var state: any DeviceArray { weights.state }
    var operands: any DeviceArray { weights.operands }

    init(
        _ device: any ComputeDevice, narrow: Bool, _ parameters: Parameters, _ shape: BatchShape, training: Bool
    ) throws {
        let table = parameters.table
        let sizes = PassSizes(table.configuration, shape, training: training)
        var (state, operands) = (Arena(), Arena())
        let weightLayout = WeightLayout(table, reach: sizes.reach, training: training, &state, &operands)
        trained = training ? (state.take(table.count), state.take(table.count), state.take(table.count)) : nil
        partials = state.take((sizes.model.layers + 1) * parts + device.manyGroups)
        layout = PassLayout(sizes, slices: device.slices, &state, &operands)
        weights = try DeviceWeights(
            device, narrow: narrow, table, weightLayout, reach: sizes.reach, state: state, operands: operands)
        integers = try device.allocate(4 * (3 * sizes.rows + 2 * sizes.batch + sizes.model.vocabulary + 1))
        self.shape = shape
        weights.write(parameters)
    }

    // MARK: A batch

    func gradient(of batches: [Batch], dropout: Dropout?) -> CrossEntropySum {
        guard let trained else { preconditionFailure("a pass that evaluates has no gradient") }
        let targets = batches.reduce(0) { count, batch in count + batch.targets.count { $0 >= 0 } }
        let biases = weights.layout.biasGradients
        device.clear(state, at: 4 * trained.gradient, bytes: 4 * weights.table.count)
        device.clear(state, at: 4 * biases.lowerBound, bytes: 4 * biases.count)
        device.clear(state, at: 4 * partials, bytes: 4 * (model.layers + 1) * parts)
        var sum = CrossEntropySum()
        for (index, batch) in batches.enumerated() {
            sum += run(batch, scale: 1 / Double(max(1, targets)), dropout: dropout?.part(index))
        }
        timed("unfolding") { weights.unfold(trained.gradient, layerWeights: partials, parts: parts) }
        return sum
    }

    func loss(of batch: Batch) -> CrossEntropySum { run(batch, scale: nil, dropout: nil) }

    /// Forward, and where a scale of the loss is given, backward.
    private func run(_ batch: Batch, scale: Double?, dropout: Dropout?) -> CrossEntropySum {
        precondition(batch.steps == shape.steps && batch.rows == shape.batchSize, "the batch is of another shape")
        let program = ready(batch.inputs, targets: batch.targets)
        timed("forward") { launch(program.forward, dropout, scale: scale ?? 0) }
        if scale != nil { backward(program, batch.inputs, dropout) }
        var sum = CrossEntropySum()
        sum.targets = batch.targets.count { $0 >= 0 }
        sum.loss = device.floats(state, at: layout.loss, count: sizes.rows).reduce(0) { $0 + Double($1) }
        sum.correct = device.floats(state, at: layout.correct, count: sizes.rows).count { $0 > 0 }
        carry()
        return sum
    }

    private func backward(_ program: PassProgram, _ tokens: [Int32], _ dropout: Dropout?) {
        guard let trained, let backward = program.backward else { return }
        timed("backward") { launch(backward, dropout, scale: 0, backward: true) }
        timed("weight gradients") { weightGradients(program) }
        timed("embedding and memory weights") { otherGradients(tokens, trained.gradient) }
    }

    private func weightGradients(_ program: PassProgram) {
        guard let gradients = program.gradients else { return }
        weights.run(
            "weightGradients",
            [
                .array(state), .array(operands), .array(gradients), .int(program.gradientCount),
                .int(program.gradientTiles),
            ])
    }

    private func otherGradients(_ tokens: [Int32], _ gradient: Int) {
        let (D, V, N) = (model.dModel, model.vocabulary, sizes.rows)
        // The rows of each token, in their order.
        var starts = [Int32](repeating: 0, count: V + 1)
        for token in tokens { starts[Int(token) + 1] += 1 }
        for token in 0..<V { starts[token + 1] += starts[token] }
        var (order, next) = ([Int32](repeating: 0, count: N), starts)
        for (n, token) in tokens.enumerated() {
            order[Int(next[Int(token)])] = Int32(n)
            next[Int(token)] += 1
        }
        let place = 2 * N + 2 * sizes.batch
        (starts + order).withUnsafeBytes { device.write($0, to: integers, at: 4 * place) }
        weights.run(
            "embeddingGradient",
            [
                .array(state), .array(integers), .long(place), .long(place + V + 1), .long(layout.dx), .long(gradient),
                .int(V), .int(D),
            ])
        if model.memory == .feedback {
            weights.run(
                "layerWeightGradients",
                [
                    .array(state), .long(layout.memory), .long(layout.x), .long(partials), .long(N * D),
                    .int(model.layers + 1), .int(parts),
                ])
        }
    }

    /// The program for what is carried now, with a batch's tokens in its place.
    private func ready(_ inputs: [Int32], targets: [Int32]) -> PassProgram {
        for token in inputs {
            precondition(token >= 0 && Int(token) < model.vocabulary, "the token \(token) is outside the vocabulary")
        }
        for target in targets {
            precondition(Int(target) < model.vocabulary, "the target \(target) is outside the vocabulary")
        }
        let counts = [Int32](repeating: Int32(carried), count: sizes.batch)
        (inputs + targets + counts + (0..<Int32(sizes.batch))).withUnsafeBytes {
            device.write($0, to: integers, at: 0)
        }
        if let program, program.phases.carried == carried { return program }
        let phases = PassPhases(weights: weights.layout, layout: layout, carried: carried)
        do {
            let new = try PassProgram(phases, device, gradient: trained?.gradient)
            program = new
            return new
        } catch { deviceFailed(device.name, "\(error)") }
    }

    private func launch(_ phases: PlacedPhases, _ dropout: Dropout?, scale: Double, backward: Bool = false) {
        var shape = Shape(sizes, phases.list)
        shape.backward = backward ? 1 : 0
        shape.lossScale = Float(scale)
        if let dropout {
            (shape.drops, shape.dropoutKey) = (1, UInt(dropout.key))
            (shape.dropoutThreshold, shape.dropoutScale) = (dropout.threshold, Float(dropout.scale))
        }
        weights.runPass(phases.array, shape, integers: integers)
    }

    // MARK: What follows a batch

    func gradientNorm() -> Double {
        guard let trained else { preconditionFailure("a pass that evaluates has no gradient") }
        let (groups, place) = (device.manyGroups, partials + (model.layers + 1) * parts)
        device.clear(state, at: 4 * place, bytes: 4 * groups)
        for (range, _) in weights.table.trainable(reach: sizes.reach) {
            weights.run(
                "sumOfSquares",
                [.array(state), .long(trained.gradient + range.lowerBound), .long(range.count), .long(place)])
        }
        return device.floats(state, at: place, count: groups).reduce(0) { $0 + Double($1) }.squareRoot()
    }

    func update(_ step: AdamStep, decay: Double) {
        timed("optimizer") { adam(step, decay) }
        timed("packing") { weights.pack() }
    }

    private func adam(_ step: AdamStep, _ decay: Double) {
        guard let trained else { preconditionFailure("a pass that evaluates has nothing to update") }
        let bias1 = 1 - pow(step.beta1, Double(step.number))
        let bias2 = 1 - pow(step.beta2, Double(step.number))
        for (range, decays) in weights.table.trainable(reach: sizes.reach) {
            let places = [weights.layout.parameters, trained.gradient, trained.first, trained.second]
            weights.run(
                "adam",
                [.array(state)] + places.map { .long($0 + range.lowerBound) } + [
                    .long(range.count), .float(step.gradientScale), .float(1 - step.beta1), .float(step.beta2),
                    .float(1 - step.beta2), .float(step.learningRate / bias1), .float(1 / bias2.squareRoot()),
                    .float(step.epsilon), .float(1 - step.learningRate * (decays ? decay : 0)),
                ])
        }
    }

    /// Runs a step with its parts timed by the device's clock; what they leave of the step by the host's is the host's.
    /// The limit is the step's matrix products alone: three times those of the weight gradients, which are as many as
    /// the forward pass has, and half of what both backward passes have.
    func profile(_ step: () -> Void) -> StepProfile? {
        phases = [:]
        let start = ContinuousClock.now
        step()
        device.finish()
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        defer { phases = nil }
        guard var phases, let program else { return nil }
        phases["host"] = max(0, seconds - phases.values.reduce(0, +))
        let products = program.products
        return StepProfile(
            phases: phases,
            limit: DeviceLimit(work: 6 * products) { [self] in 3 * device.seconds { weightGradients(program) } })
    }

    private func timed(_ phase: String, _ body: () -> Void) {
        if phases == nil { return body() }
        let seconds = device.seconds(body)
        phases?[phase, default: 0] += seconds
    }

    // MARK: What the host sees

    private func place(_ what: Trained) -> Int {
        if what == .parameters { return weights.layout.parameters }
        guard let trained else { preconditionFailure("a pass that evaluates has only parameters") }
        switch what {
        case .gradient: return trained.gradient
        case .firstMoment: return trained.first
        default: return trained.second
        }
    }

    func read(_ what: Trained) -> Parameters { weights.read(at: place(what)) }

    func write(_ values: Parameters, to what: Trained) {
        weights.write(values, at: place(what))
        if what == .parameters { weights.pack() }
    }

    func logits(_ inputs: [Int32]) -> [Float] {
        precondition(inputs.count == sizes.rows)
        let program = ready(inputs, targets: inputs)
        launch(program.forward, nil, scale: 0)
        return device.floats(state, at: layout.logits, count: sizes.rows * model.vocabulary)
    }
}
