/// Computes models: the seam between what a model is and where its numbers are.
///
/// A backend gives out sessions, each for one model and one shape of batch. A session owns its parameters where it computes;
/// the host sees numbers only through its methods. Training, evaluation, verification, benchmarks, generation and the server
/// know no more than this. See the article "A device of your own".
public protocol Backend: Sendable {
    /// Throws where the device cannot compute this model, or not so.
    func training(_ model: FeedbackModel, _ shape: BatchShape) throws -> any TrainingSession
    /// Throws where the device cannot compute this model, or not so.
    func evaluation(_ model: FeedbackModel, _ shape: BatchShape) throws -> any EvaluationSession
    /// Throws where the device cannot compute this model, or not so.
    ///
    /// - Parameters:
    ///   - model: the parameters to decode with, as they are now.
    ///   - memoryWindow: how many memories a step sees at most.
    func decoding(_ model: FeedbackModel, memoryWindow: Int) throws -> any DecodingSession

    /// The bytes that training such batches takes, roughly.
    func footprint(_ model: ModelConfiguration, _ shape: BatchShape) -> Double
    /// The bytes that the device has.
    var memoryCapacity: Double { get }
    /// The processes among which a session shares its batches.
    var communicator: any Communicator { get }
}

extension Backend {
    public var communicator: any Communicator { OneProcess() }
}

/// The processes that train one model together, each with rows of its own of every batch: what MPI calls a communicator.
///
/// All ranks call the same methods in the same order, and of the same sizes. A rank that is lost is lost to all: the methods do not
/// throw, the program ends.
public protocol Communicator: Sendable {
    /// This process's number, from 0.
    var rank: Int { get }
    var ranks: Int { get }
    /// What every rank gives, in the order of ranks.
    func allGather(_ own: [UInt8]) -> [[UInt8]]
    /// Gives every other rank its parts of some numbers, and gets this rank's parts of theirs.
    ///
    /// - Parameters:
    ///   - base: this rank's numbers.
    ///   - parts: by rank, in bytes.
    ///   - senders: who gives; the others only get.
    ///   - received: where this rank's parts go: those of the first of the other senders, one after the other, then the next's.
    func scatter(
        _ base: UnsafeRawPointer, _ parts: [[Range<Int>]], from senders: [Int], into received: UnsafeMutableRawPointer)
    /// Gives all other ranks this rank's parts of some numbers, and puts theirs in their place.
    ///
    /// - Parameters:
    ///   - base: the numbers, on every rank.
    ///   - parts: by rank, in bytes.
    func allGather(_ base: UnsafeMutableRawPointer, _ parts: [[Range<Int>]])
}

extension Communicator {
    public var isFirst: Bool { rank == 0 }

    /// What every rank gives, in the order of ranks.
    public func allGather<Number: BitwiseCopyable>(_ own: [Number]) -> [[Number]] {
        if ranks == 1 { return [own] }
        return allGather(own.withUnsafeBytes { Array($0) }).map { bytes in
            bytes.withUnsafeBytes { Array($0.bindMemory(to: Number.self)) }
        }
    }

    /// What the first rank gives.
    public func first<Number: BitwiseCopyable>(_ value: Number) -> Number { allGather([value])[0][0] }
    /// Whether any rank says so.
    public func any(_ flag: Bool) -> Bool { allGather([flag]).contains([true]) }
}

/// One process has it all.
public struct OneProcess: Communicator {
    public init() {}
    public var rank: Int { 0 }
    public var ranks: Int { 1 }
    public func allGather(_ own: [UInt8]) -> [[UInt8]] { [own] }
    public func scatter(
        _ base: UnsafeRawPointer, _ parts: [[Range<Int>]], from senders: [Int], into received: UnsafeMutableRawPointer
    ) {}
    public func allGather(_ base: UnsafeMutableRawPointer, _ parts: [[Range<Int>]]) {}
}

/// Predicts batches, one after the other. A session belongs to one thread at a time.
public protocol EvaluationSession: AnyObject {
    var shape: BatchShape { get }
    /// The loss of a batch. What its steps leave is carried to the next batch, as the shape says.
    func loss(of batch: Batch) -> CrossEntropySum
    /// The logits of a batch [T, B], as [T, B, V], beginning from what is carried; carries nothing itself.
    func logits(_ inputs: [Int32]) -> [Float]
    /// What every head of every layer looks at in one row of tokens that begins without memory: [layer][head][step][memory]. The
    /// row of step t has t numbers that add up to 1; those of memories outside the window are 0.
    func attentionWeights(_ inputs: [Int32]) -> [[[[Float]]]]
    /// The memories that the last batch has left to the next; set, the next batch continues from there.
    var carriedMemory: CarriedMemory { get set }
    /// Forgets the carried memories: the next batch begins anew.
    func forget()
    /// Sets the parameters.
    func write(_ parameters: Parameters)
}

extension Backend {
    /// What a model looks at: how much of each memory every head of every layer takes at every step of a text, as
    /// `EvaluationSession.attentionWeights` has it.
    ///
    /// - Parameters:
    ///   - model: what looks.
    ///   - tokens: the text, all in the vocabulary.
    ///   - memoryWindow: the memories a step sees at most; the model's own window where nil.
    public func attentionWeights(
        of model: FeedbackModel, _ tokens: [Int32], memoryWindow: Int? = nil
    ) throws -> [[[[Float]]]] {
        if tokens.isEmpty {
            let (layers, heads) = (model.configuration.layers, model.configuration.heads)
            return Array(repeating: Array(repeating: [], count: heads), count: layers)
        }
        let shape = BatchShape(steps: tokens.count, batchSize: 1, memoryWindow: memoryWindow)
        return try evaluation(model, shape).attentionWeights(tokens)
    }
}

/// Computes gradients and makes Adam's updates.
public protocol TrainingSession: EvaluationSession {
    /// Forward and backward over several batches, one after the other: computes the gradient of the mean loss over all their
    /// targets, as if they had been one batch, and returns the summed loss.
    ///
    /// - Parameters:
    ///   - batches: at least one.
    ///   - dropout: what to drop; another draw for every step, of which batch i takes part i.
    func gradient(of batches: [Batch], dropout: Dropout?) -> CrossEntropySum
    /// ‖g‖₂ over the gradient of everything that training changes (E11).
    func gradientNorm() -> Double
    /// One Adam update (E12) of everything that training changes.
    ///
    /// - Parameters:
    ///   - step: the update's number, learning rate and other constants.
    ///   - decay: λ, for the parameters that decay.
    func update(_ step: AdamStep, decay: Double)
    func read(_ what: Trained) -> Parameters
    func write(_ values: Parameters, to what: Trained)
    /// Runs a step with its parts timed, and finds what the device could do at most; nil where the backend cannot tell.
    func profile(_ step: () -> Void) -> StepProfile?
}

extension TrainingSession {
    public func write(_ parameters: Parameters) { write(parameters, to: .parameters) }
    public func profile(_ step: () -> Void) -> StepProfile? { nil }
}

/// What a training session has a number of for each parameter.
public enum Trained: CaseIterable, Sendable {
    case parameters, gradient
    /// Adam's m and v, zero at first.
    case firstMoment, secondMoment
}

/// Steps any number of sequences at once, each with its own memory, a token at a time. A session and its sequences belong to
/// one thread at a time.
///
/// Sequences may be of different lengths and may come and go between steps. The logits of a sequence have the same bits
/// whichever sequences it is stepped with.
public protocol DecodingSession: AnyObject {
    /// A sequence at its start, with no memory. What it remembers lives as long as it does.
    func makeSequence() -> any DecodingSequence
    /// Takes one step of every sequence: from its next token to the logits of the token after, [V] each.
    ///
    /// - Precondition: the sequences are this session's, none is listed twice, and every token is in the vocabulary.
    func step(_ sequences: [any DecodingSequence], tokens: [Int32]) -> [[Float]]
    /// What a step of so many sequences costs at least, the memory window full; nil where the backend cannot tell.
    func limit(sequences: Int) -> DeviceLimit?
}

extension DecodingSession {
    public func limit(sequences: Int) -> DeviceLimit? { nil }
}

/// One sequence of a decoding session.
public protocol DecodingSequence: AnyObject {
    /// Steps taken.
    var length: Int { get }
}

/// What a device allows at most, for work that has to be done in any case.
public struct DeviceLimit {
    /// Operations of a training step, bytes of a decoding step.
    public let work: Double
    /// How long that work takes and nothing else, in seconds: measured when called.
    public let seconds: () -> Double

    public init(work: Double, seconds: @escaping () -> Double) {
        self.work = work
        self.seconds = seconds
    }
}

/// Where the time of a training step goes.
public struct StepProfile {
    /// Seconds of the step by what they were spent on.
    public let phases: [String: Double]
    public let limit: DeviceLimit

    public init(phases: [String: Double], limit: DeviceLimit) {
        self.phases = phases
        self.limit = limit
    }
}

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
public struct CrossEntropySum: Equatable, Sendable, BitwiseCopyable {
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
