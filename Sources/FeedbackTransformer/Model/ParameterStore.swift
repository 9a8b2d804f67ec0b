import FeedbackEngine
import Foundation

/// How a fresh model's bias of a memory's distance, S, begins.
public enum PositionInitialization: String, CaseIterable, Sendable {
    /// S_o = 0, as in labml: at first every memory counts the same, however far back.
    case zero
    /// K^-½ S_o = −2^(−8h/H) · o for head h = 1 … H (ALiBi, Press et al. 2022): at first near memories count more, in
    /// some heads much more. It is learned from there.
    case slopes
}

/// One number for each parameter's value, in an executor's memory: the parameters themselves, a gradient, or an
/// optimizer's state.
public final class ParameterStore: Sendable {
    public let table: ParameterTable
    let buffer: Buffer<State>

    /// All zero.
    public init(_ table: ParameterTable, executor: any Executor) {
        self.table = table
        buffer = executor.state(1, table.count)
    }

    /// All numbers, as one row of memory that lives as long as the store.
    package var all: Matrix<State> { buffer.all }

    /// A parameter's numbers in the shape of its matrix, in memory that lives as long as the store.
    func matrix(_ parameter: Parameter) -> Matrix<State> {
        buffer.all.elements(parameter.range).shaped(parameter.rows, parameter.columns)
    }
    func matrix(_ name: String) -> Matrix<State> { matrix(table.parameter(name)) }

    /// All numbers, in the table's order.
    public var values: [Double] {
        get { withExtendedLifetime(self) { buffer.all.values } }
        set { withExtendedLifetime(self) { buffer.all.values = newValue } }
    }

    /// The numbers of the parameter of that name, row-major. Traps where the table has none.
    public subscript(name: String) -> [Double] {
        get { withExtendedLifetime(self) { matrix(name).values } }
        set { withExtendedLifetime(self) { matrix(name).values = newValue } }
    }

    /// Draws fresh parameters; each random one from a random source of its own, so that tables that differ in some parameters
    /// agree in the others.
    public func initialize(seed: UInt64, positions: PositionInitialization = .slopes) {
        for parameter in table.parameters {
            var random = RandomSource(seed: parameter.name.utf8.reduce(seed) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 })
            let values = matrix(parameter)
            switch parameter.initial {
            case .zeros: values.clear()
            case .ones: values.fill { 1 }
            case .normal: values.fill { random.normal() }
            case .uniform(let bound): values.fill { (2 * random.uniform() - 1) * bound }
            case .positionBias: initializePositionBias(values, positions)
            }
        }
    }

    private func initializePositionBias(_ bias: Matrix<State>, _ initialization: PositionInitialization) {
        guard initialization == .slopes else { return bias.clear() }
        let (heads, scale) = (table.configuration.heads, Double(table.configuration.headSize).squareRoot())
        for row in 0..<bias.rows {
            for head in 0..<heads {
                let slope = exp2(-8 * Double(head + 1) / Double(heads))
                bias[row * heads + head] = -slope * Double(bias.rows - row) * scale
            }
        }
    }

    /// Sets every number to the other store's, which may be of another type.
    public func copy(from other: ParameterStore) {
        precondition(other.table == table)
        if buffer.all.elementSize == other.buffer.all.elementSize {
            buffer.all.base.copyMemory(from: other.buffer.all.base, byteCount: table.count * buffer.all.elementSize)
            return
        }
        for index in 0..<table.count { buffer.all[index] = other.buffer.all[index] }
    }
}

extension Matrix {
    func fill(_ next: () -> Double) {
        for index in 0..<count { self[index] = next() }
    }
}
