import CDevice
import FeedbackTransformer

/// The weights of a model in a device's memory, and the two arrays that everything lies in.
final class DeviceWeights {
    let device: any ComputeDevice
    private let kernels: any DeviceKernels
    let table: ParameterTable
    let layout: WeightLayout
    let reach: Int
    let state, operands: any DeviceArray
    /// Bytes of an operand.
    let operandSize: Int
    private let maps, positions, arrived: any DeviceArray

    init(
        _ device: any ComputeDevice, narrow: Bool, _ table: ParameterTable, _ layout: WeightLayout, reach: Int,
        state: Arena, operands: Arena
    ) throws {
        kernels = try device.compile(narrow: narrow)
        operandSize = narrow ? 2 : 4
        self.state = try device.allocate(4 * state.count)
        self.operands = try device.allocate(max(1, operandSize * operands.count))
        maps = try device.array(layout.maps)
        positions = try device.array(layout.positions)
        arrived = try device.allocate(4)
        (self.device, self.table, self.layout, self.reach) = (device, table, layout, reach)
        device.clear(self.state, at: 0, bytes: 4 * state.count)
        device.clear(self.operands, at: 0, bytes: operandSize * operands.count)
    }

    private var model: ModelConfiguration { table.configuration }
    private var scale: Double { 1 / Double(model.headSize).squareRoot() }

    /// Runs a kernel whose groups need not meet.
    func run(_ kernel: String, groups: Int? = nil, _ arguments: [KernelArgument]) {
        device.run(kernels, kernel, groups: groups ?? device.manyGroups, persistent: false, arguments)
    }

    /// Runs a pass: its phases, with such sizes.
    func runPass(_ phases: any DeviceArray, _ shape: Shape, integers: any DeviceArray) {
        var shape = shape
        shape.layerWeights = layout.layerWeights
        device.clear(arrived, at: 0, bytes: 4)
        device.run(
            kernels, "pass", groups: device.groups, persistent: true,
            [.array(state), .array(operands), .array(integers), .array(phases), .array(arrived), .shape(shape)])
    }

    /// Sets the parameters, and packs them.
    func write(_ parameters: Parameters) {
        write(parameters, at: layout.parameters)
        pack()
    }

    func write(_ values: Parameters, at place: Int) {
        values.values.withUnsafeBytes { device.write($0, to: state, at: 4 * place) }
    }

    func read(at place: Int) -> Parameters {
        var values = Parameters(table)
        values.values = device.floats(state, at: place, count: table.count)
        return values
    }

    /// Makes W', b', Ũ, S̃ and a of the parameters as they are now.
    func pack() {
        run(
            "pack",
            [
                .array(state), .array(operands), .array(maps), .int(layout.maps.count), .int(layout.packUnits),
                .long(layout.parameters),
            ])
        run(
            "packPositions",
            [
                .array(state), .array(operands), .array(positions), .int(model.layers), .int(model.heads),
                .int(model.headSize), .int(reach), .long(layout.parameters), .float(scale),
            ])
        if model.isRecurrent {
            let w = table["transformer.weights"]?.offset ?? 0
            run(
                "layerWeights", groups: 1,
                [
                    .array(state), .long(layout.parameters + w), .long(layout.layerWeights), .int(model.layers),
                    .int(model.memory == .feedback ? 0 : 1),
                ])
        }
    }

    /// Turns the gradients of what is packed into those of the parameters, in place.
    func unfold(_ gradient: Int, layerWeights partials: Int, parts: Int) {
        run(
            "unfold",
            [
                .array(state), .array(maps), .int(layout.maps.count), .int(layout.unfoldUnits(device.groupSize)),
                .long(layout.parameters), .long(gradient),
            ])
        run(
            "unfoldPositions",
            [
                .array(state), .array(positions), .int(model.layers), .int(model.heads), .int(model.headSize),
                .int(reach), .long(layout.parameters), .long(gradient), .float(scale),
            ])
        if let w = table["transformer.weights"] {
            run(
                "unfoldLayerWeights", groups: 1,
                [
                    .array(state), .long(partials), .long(layout.layerWeights), .long(gradient + w.offset),
                    .int(model.layers), .int(parts),
                ])
        }
    }
}

extension ComputeDevice {
    /// An array of the device with such values.
    func array<Value>(_ values: [Value]) throws -> any DeviceArray {
        let array = try allocate(max(1, values.count * MemoryLayout<Value>.stride))
        values.withUnsafeBytes { write($0, to: array, at: 0) }
        return array
    }

    func floats(_ array: any DeviceArray, at place: Int, count: Int) -> [Float] {
        [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
            read(
                array, at: 4 * place,
                into: UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[0..<4 * count]))
            initialized = count
        }
    }
}

extension DeviceWeights {
    func readOperands(at place: Int, count: Int) -> [Float] {
        if operandSize == 4 { return device.floats(operands, at: place, count: count) }
        var halves = [UInt16](repeating: 0, count: count)
        halves.withUnsafeMutableBytes { device.read(operands, at: 2 * place, into: $0) }
        return halves.map { Float(bitPattern: UInt32($0) << 16) }
    }

    /// Rounds to the nearest where operands are bfloat16.
    func writeOperands(_ values: [Float], at place: Int) {
        if operandSize == 4 { return values.withUnsafeBytes { device.write($0, to: operands, at: 4 * place) } }
        let halves = values.map {
            UInt16(truncatingIfNeeded: ($0.bitPattern + 0x7fff + ($0.bitPattern >> 16 & 1)) >> 16)
        }
        halves.withUnsafeBytes { device.write($0, to: operands, at: 2 * place) }
    }
}
