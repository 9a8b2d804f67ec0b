import CDevice
import FeedbackTransformer

/// Decodes on a device: a step of all sequences is one launch, of the phases of a forward pass over one step.
final class DeviceDecoder: DecodingSession {
    private var room: DecodingRoom
    /// Caches that no sequence has.
    private var free: [Int]

    private final class Sequence: DecodingSequence {
        let session: DeviceDecoder
        let cache: Int
        var length = 0

        init(_ session: DeviceDecoder, cache: Int) { (self.session, self.cache) = (session, cache) }
        deinit { session.free.append(cache) }
    }

    init(_ room: DecodingRoom) {
        self.room = room
        free = [0]
    }

    func makeSequence() -> any DecodingSequence {
        if free.isEmpty {
            let count = room.sequences
            do { room = try DecodingRoom(room, sequences: 2 * count) } catch {
                deviceFailed(room.device.name, "\(error)")
            }
            free = Array((count..<2 * count).reversed())
        }
        return Sequence(self, cache: free.removeLast())
    }

    func step(_ sequences: [any DecodingSequence], tokens: [Int32]) -> [[Float]] {
        precondition(sequences.count == tokens.count)
        if sequences.isEmpty { return [] }
        let own = sequences.map { sequence in
            guard let sequence = sequence as? Sequence, sequence.session === self else {
                preconditionFailure("a sequence of another session")
            }
            return sequence
        }
        let logits = room.step(tokens, lengths: own.map(\.length), caches: own.map(\.cache))
        for sequence in own { sequence.length += 1 }
        let vocabulary = logits.count / own.count
        return own.indices.map { Array(logits[$0 * vocabulary..<($0 + 1) * vocabulary]) }
    }

    func limit(sequences: Int) -> DeviceLimit? { room.limit(sequences) }
}

/// A device's memory for decoding up to so many sequences: weights, what a step computes in, and every sequence's
/// cache.
final class DecodingRoom {
    let sequences: Int
    private let parameters: Parameters
    private let window: Int
    private let weights: DeviceWeights
    private let layout: PassLayout
    private let integers: any DeviceArray
    /// Where the sums lie by which reading is measured, and so how many numbers, of four bytes, are before them.
    private let sums: Int
    /// The phases of a step of so many sequences.
    private var programs: [Int: PlacedPhases] = [:]

    var device: any ComputeDevice { weights.device }
    private var model: ModelConfiguration { layout.sizes.model }

    init(_ device: any ComputeDevice, narrow: Bool, _ parameters: Parameters, window: Int, sequences: Int) throws {
        let sizes = PassSizes(parameters.table.configuration, sequences: sequences, window: window)
        var (state, operands) = (Arena(), Arena())
        let weightLayout = WeightLayout(parameters.table, reach: sizes.reach, training: false, &state, &operands)
        layout = PassLayout(sizes, slices: device.slices, &state, &operands)
        let size = narrow ? 2 : 4
        sums = operands.take(device.manyGroups * 4 / size) * size / 4
        weights = try DeviceWeights(
            device, narrow: narrow, parameters.table, weightLayout, reach: sizes.reach, state: state, operands: operands
        )
        integers = try device.allocate(4 * 4 * sequences)
        (self.parameters, self.window, self.sequences) = (parameters, window, sequences)
        weights.write(parameters)
    }

    /// Room for more sequences, with the caches of those that are there.
    convenience init(_ other: DecodingRoom, sequences: Int) throws {
        let size = other.weights.operandSize
        try self.init(other.device, narrow: size == 2, other.parameters, window: other.window, sequences: sequences)
        let bytes = size * other.sequences * layout.sizes.slots * model.dModel
        let (from, to) = (other.layout.keysAcross + other.layout.values, layout.keysAcross + layout.values)
        for (old, new) in zip(from, to) {
            device.copy(other.weights.operands, at: size * old, to: weights.operands, at: size * new, bytes: bytes)
        }
        device.finish()
    }

    /// The logits of every sequence, [rows, V].
    func step(_ tokens: [Int32], lengths: [Int], caches: [Int]) -> [Float] {
        let rows = tokens.count
        for token in tokens {
            precondition(token >= 0 && Int(token) < model.vocabulary, "the token \(token) is outside the vocabulary")
        }
        func padded(_ values: [Int32]) -> [Int32] { values + Array(repeating: 0, count: sequences - rows) }
        let (own, counts) = (padded(tokens), padded(lengths.map(Int32.init)))
        (own + own + counts + padded(caches.map(Int32.init))).withUnsafeBytes { device.write($0, to: integers, at: 0) }
        let program = program(rows: rows)
        weights.runPass(program.array, Shape(layout.sizes, program.list), integers: integers)
        return device.floats(weights.state, at: layout.logits, count: rows * model.vocabulary)
    }

    private func program(rows: Int) -> PlacedPhases {
        if let program = programs[rows] { return program }
        var phases = PassPhases(weights: weights.layout, layout: layout)
        phases.rows = rows
        do {
            let program = try PlacedPhases(phases.forward(hasLoss: false), device)
            programs[rows] = program
            return program
        } catch { deviceFailed(device.name, "\(error)") }
    }

    /// Reading the weights once, and every sequence's memory, the window full.
    func limit(_ sequences: Int) -> DeviceLimit {
        let maps = weights.layout.maps.reduce(0) { $0 + Int($1.inputs) * Int($1.outputs) }
        let memory = model.layers * layout.sizes.reach * 2 * model.dModel
        let bytes = Double(weights.operandSize * (maps + sequences * memory))
        return DeviceLimit(work: bytes) { [self] in
            let seconds = device.seconds {
                weights.run("sumOfSquares", [.array(weights.operands), .long(0), .long(sums), .long(sums)])
            }
            return seconds * bytes / Double(4 * sums)
        }
    }
}
