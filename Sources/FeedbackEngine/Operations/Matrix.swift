import FeedbackTransformer
import Foundation

/// Parameters, gradients, the residual stream and everything that is accumulated: `Float` on the CPU, `Double` in the
/// reference.
package enum State {}

/// What enters a matrix product and is kept for the backward pass: keys, values, queries, normalised activations.
package enum Operand {}

/// A view of row-major numbers in an executor's memory, `[rows, columns]`.
///
/// The role says what the numbers are for; the executor that allocated them knows their type. A view owns no memory and takes
/// no lock: whoever gives views to several threads must see that no two write in the same place.
package struct Matrix<Role>: @unchecked Sendable {
    package let base: UnsafeMutableRawPointer
    package let elementSize: Int
    package let rows: Int
    package let columns: Int

    package var count: Int { rows * columns }

    /// The rows of a range, as a view of the same memory.
    package func rows(_ range: Range<Int>) -> Matrix {
        assert(range.lowerBound >= 0 && range.upperBound <= rows, "rows \(range) of \(rows)")
        return Matrix(
            base: base + range.lowerBound * columns * elementSize, elementSize: elementSize, rows: range.count,
            columns: columns)
    }

    /// The same numbers in another shape.
    package func shaped(_ rows: Int, _ columns: Int) -> Matrix {
        precondition(rows * columns == count, "\(self.rows)×\(self.columns) numbers do not fill \(rows)×\(columns)")
        return Matrix(base: base, elementSize: elementSize, rows: rows, columns: columns)
    }

    /// A range of the numbers in row-major order, as one row.
    package func elements(_ range: Range<Int>) -> Matrix {
        precondition(range.lowerBound >= 0 && range.upperBound <= count, "elements \(range) of \(count)")
        return Matrix(
            base: base + range.lowerBound * elementSize, elementSize: elementSize, rows: 1, columns: range.count)
    }

    /// Copies rows of this matrix to where row `to` is; the two may overlap.
    package func moveRows(_ range: Range<Int>, to: Int) {
        precondition(range.lowerBound >= 0 && range.upperBound <= rows && to >= 0 && to + range.count <= rows)
        let bytes = columns * elementSize
        (base + to * bytes).copyMemory(from: base + range.lowerBound * bytes, byteCount: range.count * bytes)
    }

    /// Sets every number to zero.
    package func clear() {
        base.initializeMemory(as: UInt8.self, repeating: 0, count: count * elementSize)
    }

    /// The address of a number, by its index in row-major order.
    package func pointer(_ index: Int) -> UnsafeMutableRawPointer { base + index * elementSize }

    package var floats: UnsafeMutablePointer<Float> {
        assert(elementSize == MemoryLayout<Float>.size)
        return base.assumingMemoryBound(to: Float.self)
    }

    /// bfloat16, as its bits.
    package var bfloats: UnsafeMutablePointer<UInt16> {
        assert(elementSize == MemoryLayout<UInt16>.size)
        return base.assumingMemoryBound(to: UInt16.self)
    }

    package var doubles: UnsafeMutablePointer<Double> {
        assert(elementSize == MemoryLayout<Double>.size)
        return base.assumingMemoryBound(to: Double.self)
    }

    /// The numbers in row-major order.
    package var values: [Double] {
        get {
            elementSize == MemoryLayout<Double>.size
                ? Array(UnsafeBufferPointer(start: doubles, count: count)) : (0..<count).map { self[$0] }
        }
        nonmutating set {
            precondition(newValue.count == count, "\(newValue.count) values for \(rows)×\(columns)")
            for (index, value) in newValue.enumerated() { self[index] = value }
        }
    }

    /// The same in float32.
    package var floatValues: [Float] {
        elementSize == MemoryLayout<Float>.size
            ? Array(UnsafeBufferPointer(start: floats, count: count)) : values.map(Float.init)
    }

    /// One number in row-major order. For tests, setup and small work; operations never go through here.
    package subscript(index: Int) -> Double {
        get {
            precondition(index >= 0 && index < count)
            return switch elementSize {
            case MemoryLayout<Double>.size: doubles[index]
            case MemoryLayout<Float>.size: Double(floats[index])
            default: Double(Float(bitPattern: UInt32(bfloats[index]) << 16))
            }
        }
        nonmutating set {
            precondition(index >= 0 && index < count)
            switch elementSize {
            case MemoryLayout<Double>.size: doubles[index] = newValue
            case MemoryLayout<Float>.size: floats[index] = Float(newValue)
            default: bfloats[index] = bfloat16(Float(newValue))
            }
        }
    }
}

/// A float32's bits in bfloat16: the upper half, rounded to nearest, ties to even.
package func bfloat16(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    return value.isNaN ? 0x7fc0 : UInt16((bits &+ 0x7fff &+ (bits >> 16 & 1)) >> 16)
}

/// Memory for one matrix: 64-byte aligned, zero at first, freed with the object.
///
/// Kernels read and write whole vectors, so 128 bytes on either side belong to the buffer too. Pages that are never
/// written take no memory.
package final class Buffer<Role>: @unchecked Sendable {
    package let all: Matrix<Role>
    private let allocation: UnsafeMutableRawPointer
    private static var margin: Int { 128 }

    package init(elementSize: Int, rows: Int, columns: Int) {
        let (count, overflow) = rows.multipliedReportingOverflow(by: columns)
        precondition(rows >= 0 && columns >= 0 && !overflow && count < 1 << 44, "cannot allocate \(rows)×\(columns)")
        guard let allocation = calloc(1, count * elementSize + 2 * Self.margin + 64) else {
            // What computes cannot throw, and nothing goes on without its memory.
            let line = "Error: no memory is left for \(rows)×\(columns) numbers; use a smaller batch-size or model\n"
            FileHandle.standardError.write(Data(line.utf8))
            exit(1)
        }
        self.allocation = allocation
        all = Matrix(
            base: (allocation + Self.margin).alignedUp(toMultipleOf: 64), elementSize: elementSize, rows: rows,
            columns: columns)
    }

    deinit { free(allocation) }

    package func rows(_ range: Range<Int>) -> Matrix<Role> { all.rows(range) }
}

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
            withExtendedLifetime(self) { parameters.values = all.floatValues }
            return parameters
        }
        set { write(newValue, 0..<table.count) }
    }

    /// Takes the host's numbers of a range.
    func write(_ host: Parameters, _ range: Range<Int>) {
        precondition(host.table == table)
        host.values.withUnsafeBufferPointer { values in
            if all.elementSize == MemoryLayout<Float>.size {
                (all.floats + range.lowerBound).update(
                    from: values.baseAddress! + range.lowerBound, count: range.count)
            } else {
                for index in range { all[index] = Double(values[index]) }
            }
        }
    }
}
