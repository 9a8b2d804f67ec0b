import FeedbackEngine

/// What a training step spends its time on.
public enum TrainingPhase: String, CaseIterable, Sendable {
    case linearForward, linearBackward, weightGradients
    case attentionForward, attentionBackward
    /// LayerNorm, the rectifier, copies and conversions.
    case elementwise
    /// The memory's weighted sum, and writing keys and values.
    case memory
    case embeddingAndLoss
    /// Packing the weights, and turning gradients of packed weights into gradients of parameters.
    case packing
    /// The sum over workers, clipping, Adam.
    case optimizer
    /// What is none of these: waiting for the other workers, and Swift between the operations.
    case other
}

/// Runs another executor's operations, adds up the time of each kind, and can record the matrix products.
final class InstrumentedExecutor: Executor {
    private let base: any Executor
    private(set) var seconds: [TrainingPhase: Double] = [:]
    /// The matrix products since `reset`, in order.
    private(set) var products: [RecordedProduct] = []

    init(_ base: any Executor) { self.base = base }

    func reset() {
        seconds = [:]
        products = []
    }

    private func timed<Result>(_ phase: TrainingPhase, _ body: () -> Result) -> Result {
        let start = ContinuousClock.now
        defer { seconds[phase, default: 0] += (ContinuousClock.now - start) / .seconds(1) }
        return body()
    }

    private func product(
        _ kind: RecordedProduct.Kind, _ linear: PackedLinear, rows: Int, _ phase: TrainingPhase, _ body: () -> Void
    ) {
        products.append(RecordedProduct(kind: kind, linear: linear, rows: rows))
        timed(phase, body)
    }

    // MARK: Memory and small operations

    func state(_ rows: Int, _ columns: Int) -> Buffer<State> { base.state(rows, columns) }
    func operand(_ rows: Int, _ columns: Int) -> Buffer<Operand> { base.operand(rows, columns) }

    func convert(_ x: Matrix<State>, into y: Matrix<Operand>) { timed(.elementwise) { base.convert(x, into: y) } }
    func copy(_ x: Matrix<State>, into y: Matrix<State>) { timed(.elementwise) { base.copy(x, into: y) } }
    func rectifierBackward(_ h: Matrix<Operand>, _ dh: Matrix<Operand>) {
        timed(.elementwise) { base.rectifierBackward(h, dh) }
    }
    func normalize(_ x: Matrix<State>, into y: Matrix<Operand>, inverseDeviation r: Matrix<State>) {
        timed(.elementwise) { base.normalize(x, into: y, inverseDeviation: r) }
    }
    func normalizeBackward(
        _ dy: Matrix<State>, normalized y: Matrix<Operand>, inverseDeviation r: Matrix<State>,
        accumulatingInto dx: Matrix<State>
    ) {
        timed(.elementwise) { base.normalizeBackward(dy, normalized: y, inverseDeviation: r, accumulatingInto: dx) }
    }

    func embed(_ tokens: [Int32], table: Matrix<State>, into x: Matrix<State>) {
        timed(.embeddingAndLoss) { base.embed(tokens, table: table, into: x) }
    }
    func embedBackward(_ dx: Matrix<State>, tokens: [Int32], accumulatingInto dTable: Matrix<State>) {
        timed(.embeddingAndLoss) { base.embedBackward(dx, tokens: tokens, accumulatingInto: dTable) }
    }
    func crossEntropy(
        _ z: Matrix<State>, targets: [Int32], scale: Double, into dz: Matrix<State>
    ) -> CrossEntropySum {
        timed(.embeddingAndLoss) { base.crossEntropy(z, targets: targets, scale: scale, into: dz) }
    }

    func weightedSum(_ x: [Matrix<State>], weights a: [Double], into m: Matrix<State>) {
        timed(.memory) { base.weightedSum(x, weights: a, into: m) }
    }
    func weightedSumBackward(
        _ dm: Matrix<State>, x: Matrix<State>, weight a: Double, accumulatingInto dx: Matrix<State>
    ) -> Double {
        timed(.memory) { base.weightedSumBackward(dm, x: x, weight: a, accumulatingInto: dx) }
    }

    func add(_ x: Matrix<State>, accumulatingInto y: Matrix<State>) {
        timed(.optimizer) { base.add(x, accumulatingInto: y) }
    }
    func sumOfSquares(_ x: Matrix<State>) -> Double { timed(.optimizer) { base.sumOfSquares(x) } }
    func adam(
        _ w: Matrix<State>, gradient g: Matrix<State>, m: Matrix<State>, v: Matrix<State>, step: AdamStep, decay: Double
    ) {
        timed(.optimizer) { base.adam(w, gradient: g, m: m, v: v, step: step, decay: decay) }
    }

    // MARK: Linear maps

    func makeLinear(inputs: Int, outputs: Int) -> PackedLinear { base.makeLinear(inputs: inputs, outputs: outputs) }
    func pack(
        _ linear: PackedLinear, weight: Matrix<State>, bias: Matrix<State>?, norm: NormParameters?, scale: Double
    ) {
        timed(.packing) { base.pack(linear, weight: weight, bias: bias, norm: norm, scale: scale) }
    }
    func unfold(
        _ dWeight: Matrix<State>, dBias: Matrix<State>?, weight: Matrix<State>, norm: NormParameters?, scale: Double,
        accumulatingInto dNorm: NormParameters?
    ) {
        timed(.packing) {
            base.unfold(dWeight, dBias: dBias, weight: weight, norm: norm, scale: scale, accumulatingInto: dNorm)
        }
    }

    func linear(_ x: Matrix<Operand>, _ linear: PackedLinear, into y: Matrix<Operand>, rectified: Bool) {
        product(.forwardToOperand(rectified: rectified), linear, rows: x.rows, .linearForward) {
            base.linear(x, linear, into: y, rectified: rectified)
        }
    }
    func linear(_ x: Matrix<Operand>, _ linear: PackedLinear, into y: Matrix<State>) {
        product(.forward(accumulates: false), linear, rows: x.rows, .linearForward) { base.linear(x, linear, into: y) }
    }
    func linear(_ x: Matrix<Operand>, _ linear: PackedLinear, accumulatingInto y: Matrix<State>) {
        product(.forward(accumulates: true), linear, rows: x.rows, .linearForward) {
            base.linear(x, linear, accumulatingInto: y)
        }
    }
    func linearBackward(_ dy: Matrix<Operand>, _ linear: PackedLinear, into dx: Matrix<Operand>) {
        product(.backwardToOperand, linear, rows: dy.rows, .linearBackward) {
            base.linearBackward(dy, linear, into: dx)
        }
    }
    func linearBackward(_ dy: Matrix<Operand>, _ linear: PackedLinear, into dx: Matrix<State>) {
        product(.backward(accumulates: false), linear, rows: dy.rows, .linearBackward) {
            base.linearBackward(dy, linear, into: dx)
        }
    }
    func linearBackward(_ dy: Matrix<Operand>, _ linear: PackedLinear, accumulatingInto dx: Matrix<State>) {
        product(.backward(accumulates: true), linear, rows: dy.rows, .linearBackward) {
            base.linearBackward(dy, linear, accumulatingInto: dx)
        }
    }
    func linearGradients(
        _ dy: Matrix<Operand>, _ x: Matrix<Operand>, _ linear: PackedLinear, accumulatingInto dWeight: Matrix<State>,
        dBias: Matrix<State>?
    ) {
        product(.gradient, linear, rows: dy.rows, .weightGradients) {
            base.linearGradients(dy, x, linear, accumulatingInto: dWeight, dBias: dBias)
        }
    }

    // MARK: Attention

    func makeMemory(rows: Int, slots: Int, heads: Int, headSize: Int, training: Bool) -> AttentionMemory {
        base.makeMemory(rows: rows, slots: slots, heads: heads, headSize: headSize, training: training)
    }
    func makePositions(heads: Int, headSize: Int, reach: Int) -> PackedPositions {
        base.makePositions(heads: heads, headSize: headSize, reach: reach)
    }
    func makePositionGradients(heads: Int, headSize: Int, reach: Int) -> PositionGradients {
        base.makePositionGradients(heads: heads, headSize: headSize, reach: reach)
    }
    func scoreColumns(slots: Int) -> Int { base.scoreColumns(slots: slots) }
    var scoreMargin: Int { base.scoreMargin }

    func pack(
        _ positions: PackedPositions, embeddings: Matrix<State>, bias: Matrix<State>, queryBias: Matrix<State>,
        scale: Double
    ) {
        timed(.packing) {
            base.pack(positions, embeddings: embeddings, bias: bias, queryBias: queryBias, scale: scale)
        }
    }
    func unfoldPositions(
        _ dEmbeddings: Matrix<State>, dBias: Matrix<State>, dQueryBias: Matrix<State>, embeddings: Matrix<State>,
        queryBias: Matrix<State>, scale: Double
    ) {
        timed(.packing) {
            base.unfoldPositions(
                dEmbeddings, dBias: dBias, dQueryBias: dQueryBias, embeddings: embeddings, queryBias: queryBias,
                scale: scale)
        }
    }
    func drop(_ x: Matrix<State>, _ dropout: Dropout, step: Int, rows: Int) {
        timed(.elementwise) { base.drop(x, dropout, step: step, rows: rows) }
    }
    func drop(_ x: Matrix<Operand>, _ dropout: Dropout, step: Int, rows: Int) {
        timed(.elementwise) { base.drop(x, dropout, step: step, rows: rows) }
    }
    func append(_ keysValues: Matrix<State>, to memory: AttentionMemory, slot: Int) {
        timed(.memory) { base.append(keysValues, to: memory, slot: slot) }
    }

    func attend(
        _ q: Matrix<Operand>, _ memory: AttentionMemory, _ positions: PackedPositions, _ visibility: Visibility,
        probabilities p: Matrix<Operand>, dropout: Dropout?, into context: Matrix<Operand>
    ) {
        timed(.attentionForward) {
            base.attend(q, memory, positions, visibility, probabilities: p, dropout: dropout, into: context)
        }
    }
    func attendBackward(
        _ dContext: Matrix<Operand>, context: Matrix<Operand>, probabilities p: Matrix<Operand>,
        _ memory: AttentionMemory, _ positions: PackedPositions, _ visibility: Visibility, dropout: Dropout?,
        scoreGradients ds: Matrix<Operand>, into dq: Matrix<Operand>
    ) {
        timed(.attentionBackward) {
            base.attendBackward(
                dContext, context: context, probabilities: p, memory, positions, visibility, dropout: dropout,
                scoreGradients: ds, into: dq)
        }
    }
    func gather(
        _ layers: [AttentionGradients], steps: Range<Int>, slots: Range<Int>, _ visibility: Visibility,
        accumulatingInto memory: AttentionMemory
    ) {
        timed(.attentionBackward) {
            base.gather(layers, steps: steps, slots: slots, visibility, accumulatingInto: memory)
        }
    }
    func gather(
        scoreGradients ds: Matrix<Operand>, q: Matrix<Operand>, rows: Int, _ visibility: Visibility,
        accumulatingInto gradients: PositionGradients
    ) {
        timed(.attentionBackward) {
            base.gather(scoreGradients: ds, q: q, rows: rows, visibility, accumulatingInto: gradients)
        }
    }
    func clearGradients(_ memory: AttentionMemory) { timed(.attentionBackward) { base.clearGradients(memory) } }
    func keyValueGradients(_ memory: AttentionMemory, slots: Range<Int>, into dKeysValues: Matrix<Operand>) {
        timed(.attentionBackward) { base.keyValueGradients(memory, slots: slots, into: dKeysValues) }
    }
    func flush(_ gradients: PositionGradients, embeddings: Matrix<State>, bias: Matrix<State>) {
        timed(.attentionBackward) { base.flush(gradients, embeddings: embeddings, bias: bias) }
    }
}
