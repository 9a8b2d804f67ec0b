import FeedbackTransformer

/// One number for each parameter's value, in an executor's memory: the parameters themselves, a gradient, or an
/// optimizer's state.
package final class ParameterStore: Sendable {
    package let table: ParameterTable
    private let buffer: Buffer<State>

    /// All zero.
    package init(_ table: ParameterTable, executor: some Executor) {
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

    /// A vector's numbers as one row, of a matrix's all of them.
    func row(_ parameter: Parameter) -> Matrix<State> { buffer.all.elements(parameter.range) }

    /// The numbers of the parameter of that name, row-major. Traps where the table has none.
    package subscript(name: String) -> [Double] {
        get { withExtendedLifetime(self) { matrix(name).values } }
        set { withExtendedLifetime(self) { matrix(name).values = newValue } }
    }

    /// The numbers as the host has them, in float32.
    package var host: Parameters {
        get {
            var parameters = Parameters(table)
            withExtendedLifetime(self) {
                parameters.values =
                    all.elementSize == MemoryLayout<Float>.size
                    ? Array(UnsafeBufferPointer(start: all.floats, count: all.count)) : all.values.map(Float.init)
            }
            return parameters
        }
        set {
            precondition(newValue.table == table)
            newValue.values.withUnsafeBufferPointer { values in
                if all.elementSize == MemoryLayout<Float>.size {
                    all.floats.update(from: values.baseAddress!, count: values.count)
                } else {
                    for index in values.indices { all[index] = Double(values[index]) }
                }
            }
        }
    }
}

extension Parameters {
    /// A copy of a parameter's numbers for the decoder's kernels, in the shape of its matrix.
    func buffer(of parameter: Parameter) -> Buffer<State> {
        let buffer = decodingState(parameter.rows, parameter.columns)
        values.withUnsafeBufferPointer { values in
            buffer.all.floats.update(from: values.baseAddress! + parameter.offset, count: parameter.count)
        }
        return buffer
    }
}
