import CDevice
import FeedbackTransformer

extension Phase {
    /// A phase on some rows: first + step · perStep and on.
    init(_ kind: Int, _ rows: PhaseRows) {
        self.init()
        (self.kind, first, perStep, self.rows) = (
            Int32(kind), Int32(rows.first), Int32(rows.perStep), Int32(rows.count)
        )
        (readPlace, writePlace) = (-1, -1)
        let none = Term(gradient: -1, normalized: -1, deviation: -1, factor: -1)
        terms = (none, none)
        (bias, source, normalized, deviation, sum, droppedSum, lastTerm) = (-1, -1, -1, -1, -1, -1, -1)
        (result, residual, memory, gate, probabilities) = (-1, -1, -1, -1, -1)
    }

    /// y = x W'ᵀ + b', or with the transposed dx = dy W'.
    static func product(
        _ rows: PhaseRows, inputs: Int, outputs: Int, weight: Int, bias: Int = -1, read: Int, from source: Int,
        write: Int, to result: Int = -1
    ) -> Phase {
        var phase = Phase(PRODUCT, rows)
        (phase.inputs, phase.outputs, phase.weight, phase.bias) = (Int32(inputs), Int32(outputs), weight, bias)
        (phase.read, phase.source, phase.write, phase.result) = (Int32(read), source, Int32(write), result)
        return phase
    }

    /// Where a cache's keys and values are.
    mutating func place(_ cache: Int, _ layout: PassLayout) {
        (keys, keysAcross) = (layout.keys[cache], layout.keysAcross[cache])
        (values, valuesAcross) = (layout.values[cache], layout.valuesAcross[cache])
    }
}

/// The rows of a phase: at every block the next ones, or always the same.
struct PhaseRows {
    var first = 0
    var perStep = 0
    var count: Int
}

/// A pass as phases: some that come once, a body for every block of steps, and some that come once again.
struct PhaseList {
    var before: [Phase] = []
    var body: [Phase] = []
    var after: [Phase] = []
    var all: [Phase] { before + body + after }
}
