import CDevice
import FeedbackTransformer

extension Shape {
    /// The sizes of a pass; where its tokens, and what is known of its rows, lie in `integers`.
    init(_ sizes: PassSizes, _ list: PhaseList) {
        self.init()
        let model = sizes.model
        (steps, batch, width) = (Int32(sizes.steps), Int32(sizes.batch), Int32(model.dModel))
        (heads, headSize, vocabulary) = (Int32(model.heads), Int32(model.headSize), Int32(model.vocabulary))
        (slots, reach) = (Int32(sizes.slots), Int32(sizes.reach))
        (before, body, after) = (Int32(list.before.count), Int32(list.body.count), Int32(list.after.count))
        (blocks, dropoutScale) = (model.isRecurrent ? steps : 1, 1)
        (inputs, targets) = (0, sizes.rows)
        (counts, places) = (2 * sizes.rows, 2 * sizes.rows + sizes.batch)
    }
}

/// A list of phases in the device's memory.
struct PlacedPhases {
    let list: PhaseList
    let array: any DeviceArray

    init(_ list: PhaseList, _ device: any ComputeDevice) throws {
        self.list = list
        array = try device.array(list.all)
    }
}

/// A segment's phases in the device's memory, and the sums that follow it.
struct PassProgram {
    let phases: PassPhases
    let forward: PlacedPhases
    let backward: PlacedPhases?
    let gradients: (any DeviceArray)?
    let gradientCount, gradientTiles: Int
    /// Multiplications of the weight gradients.
    var products = 0.0

    init(_ phases: PassPhases, _ device: any ComputeDevice, gradient: Int?) throws {
        forward = try PlacedPhases(phases.forward(hasLoss: true), device)
        self.phases = phases
        guard let gradient else {
            (backward, gradients, gradientCount, gradientTiles) = (nil, nil, 0, 0)
            return
        }
        backward = try PlacedPhases(phases.backward(), device)
        var sums = WeightGradients(side: device.groupSize == 256 ? 64 : 32)
        phases.addWeightGradients(gradient, to: &sums)
        gradients = try device.array(sums.all)
        (gradientCount, gradientTiles) = (sums.all.count, sums.tiles)
        products = sums.all.reduce(0) { $0 + Double($1.rows) * Double($1.outputs) * Double($1.inputs) }
    }
}
