import Foundation

/// How a fresh model's bias of a memory's distance, S, begins.
public enum PositionInitialization: String, CaseIterable, Sendable {
    /// S_o = 0, as in labml: at first every memory counts the same, however far back.
    case zero
    /// K^-½ S_o = −2^(−8h/H) · o for head h = 1 … H (ALiBi, Press et al. 2022): at first near memories count more, in
    /// some heads much more. It is learned from there.
    case slopes
}

/// One number for each of a model's parameters, in float32: the parameters themselves, a gradient, or an optimizer's state.
public struct Parameters: Equatable, Sendable {
    public let table: ParameterTable
    /// All numbers, in the table's order.
    public var values: [Float] {
        didSet { precondition(values.count == table.count, "\(values.count) numbers for \(table.count) parameters") }
    }

    /// All zero.
    public init(_ table: ParameterTable) {
        self.table = table
        values = Array(repeating: 0, count: table.count)
    }

    /// The numbers of the parameter of that name, row-major. Traps where the table has none.
    public subscript(name: String) -> [Float] {
        get { Array(values[table.parameter(name).range]) }
        set {
            let range = table.parameter(name).range
            precondition(newValue.count == range.count, "\(newValue.count) values for \(name)'s \(range.count)")
            values.replaceSubrange(range, with: newValue)
        }
    }

    /// Freshly drawn parameters; each random one from a random source of its own, so that tables that differ in some parameters
    /// agree in the others.
    public init(_ table: ParameterTable, seed: UInt64, positions: PositionInitialization = .slopes) {
        self.init(table)
        values.withUnsafeMutableBufferPointer { values in
            for parameter in table.parameters {
                var random = RandomSource(
                    seed: parameter.name.utf8.reduce(seed) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 })
                func fill(_ next: () -> Double) { for index in parameter.range { values[index] = Float(next()) } }
                switch parameter.initial {
                case .zeros: break
                case .ones: fill { 1 }
                case .normal: fill { random.normal() }
                case .uniform(let bound): fill { (2 * random.uniform() - 1) * bound }
                case .positionBias:
                    guard positions == .slopes else { break }
                    let (heads, scale) = (table.configuration.heads, Double(table.configuration.headSize).squareRoot())
                    for (index, place) in parameter.range.enumerated() {
                        let slope = exp2(-8 * Double(index % heads + 1) / Double(heads))
                        values[place] = Float(-slope * Double(parameter.rows - index / heads) * scale)
                    }
                }
            }
        }
    }
}
