/// T steps of B rows, time-major: the row of step t is t·B ..< (t+1)·B. A negative target is none.
public struct Batch: Equatable, Sendable {
    public let steps: Int
    public let rows: Int
    public let inputs: [Int32]
    public let targets: [Int32]

    public init(steps: Int, rows: Int, inputs: [Int32], targets: [Int32]) {
        precondition(inputs.count == steps * rows && targets.count == inputs.count)
        self.steps = steps
        self.rows = rows
        self.inputs = inputs
        self.targets = targets
    }
}

/// The sizes of a session's batches.
public struct BatchShape: Equatable, Sendable {
    /// T, the sequence length.
    public var steps: Int
    /// B.
    public var batchSize: Int
    /// How many memories are carried from one batch to the next, which must continue it; 0 for none.
    public var carry: Int
    /// The memories a step sees at most, where fewer than the model's own window.
    public var memoryWindow: Int?

    public init(steps: Int, batchSize: Int, carry: Int = 0, memoryWindow: Int? = nil) {
        precondition(steps > 0 && batchSize > 0 && carry >= 0 && (memoryWindow ?? 1) > 0)
        self.steps = steps
        self.batchSize = batchSize
        self.carry = carry
        self.memoryWindow = memoryWindow
    }
}

/// The memories that one batch leaves to the next: [slots, B, D], once for all layers or once a layer.
public struct CarriedMemory: Equatable, Sendable {
    public let slots: Int
    public let vectors: [[Float]]

    public init(slots: Int, vectors: [[Float]]) {
        self.slots = slots
        self.vectors = vectors
    }
}

/// What cross-entropy (E10) adds up over the rows that have a target.
public struct CrossEntropySum: Equatable, Sendable {
    /// In nats.
    public var loss = 0.0
    /// Rows that have a target.
    public var targets = 0
    /// Rows whose largest logit is the target's.
    public var correct = 0

    public init() {}
    public static func += (sum: inout CrossEntropySum, other: CrossEntropySum) {
        sum.loss += other.loss
        sum.targets += other.targets
        sum.correct += other.correct
    }
}

/// One Adam update's numbers (E12), the same for every parameter.
public struct AdamStep: Equatable, Sendable {
    public var learningRate: Double
    /// t, from 1.
    public var number: Int
    public var beta1 = 0.9
    public var beta2 = 0.999
    public var epsilon = 1e-8
    /// c, from gradient clipping.
    public var gradientScale = 1.0

    public init(learningRate: Double, number: Int) {
        self.learningRate = learningRate
        self.number = number
    }
}
