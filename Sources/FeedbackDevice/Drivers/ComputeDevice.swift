import CDevice
import FeedbackTransformer
import Foundation

/// A device with memory of its own that runs kernels one after the other: what OpenCL and CUDA have in common.
///
/// One device of a process is one object. It computes one thing at a time, so that the groups of a persistent kernel
/// all find room.
protocol ComputeDevice: AnyObject, Sendable {
    var name: String { get }
    /// Bytes in all, and of one array at most.
    var memory: Int { get }
    var largestArray: Int { get }
    /// Groups that are resident at the same time, one a processor, and the work-items of each.
    var groups: Int { get }
    var groupSize: Int { get }

    /// Makes it ready, before anything else that follows. Only to be listed it takes nothing of its memory.
    func open() throws(ConfigurationError)
    func allocate(_ bytes: Int) throws -> DeviceArray
    /// Compiles the kernels, where this has not been done, for operands in float32 or in bfloat16.
    func compile(narrow: Bool) throws -> DeviceKernels
    func write(_ bytes: UnsafeRawBufferPointer, to array: DeviceArray, at offset: Int)
    func read(_ array: DeviceArray, at offset: Int, into bytes: UnsafeMutableRawBufferPointer)
    func clear(_ array: DeviceArray, at offset: Int, bytes: Int)
    func copy(_ from: DeviceArray, at offset: Int, to: DeviceArray, at place: Int, bytes: Int)
    /// Runs a kernel after everything before it. Where it is persistent, `groups` are resident together.
    func run(_ kernels: DeviceKernels, _ kernel: String, groups: Int, persistent: Bool, _ arguments: [KernelArgument])
    /// Waits until all is done.
    func finish()
    /// How long the device takes for what it is asked to do meanwhile, after all before it, by its own clock.
    func seconds(_ body: () -> Void) -> Double
}

extension ComputeDevice {
    /// Slices of 32 work-items in all resident groups.
    var slices: Int { groups * groupSize / 32 }
    /// Groups of a kernel that need not be resident together.
    var manyGroups: Int { groups * 4 }
}

/// Memory of a device, given back with the last reference.
protocol DeviceArray: AnyObject, Sendable {}

/// The kernels of one program, by name.
protocol DeviceKernels: AnyObject, Sendable {}

/// An argument of a kernel, as its source declares it.
enum KernelArgument {
    case array(any DeviceArray)
    case int(Int)
    case long(Int)
    case float(Double)
    case shape(Shape)
}

/// Ends the process where a device fails in the middle of its work: what it had computed is lost, and what waits for it
/// has no way to go on. Checkpoints are whole, as they always are.
func deviceFailed(_ device: String, _ what: String) -> Never {
    FileHandle.standardError.write(
        Data("Error: \(device) failed: \(what); continue from the last checkpoint, with --resume\n".utf8))
    exit(1)
}

/// The text before a zero.
func text(_ characters: [CChar]) -> String {
    String(decoding: characters.prefix { $0 != 0 }.map { UInt8(truncatingIfNeeded: $0) }, as: UTF8.self)
}

/// The line of a compiler's log that says what is wrong.
func firstError(_ log: [CChar]) -> Substring {
    text(log).split(separator: "\n").first { $0.contains("error") } ?? "no reason given"
}

/// The kernels' source, for a group of so many work-items.
func kernelSource(groupSize: Int, narrow: Bool, tensorCores: Bool = false) -> String {
    let files = [
        PackageResources.Phase_cl, PackageResources.Prelude_cl, PackageResources.Attention_cl,
        PackageResources.Product_cl, PackageResources.Pass_cl, PackageResources.Gradients_cl,
        PackageResources.Weights_cl,
    ]
    let head = "#define GROUP \(groupSize)\n#define NARROW \(narrow ? 1 : 0)\n"
    return files.reduce(head + (tensorCores ? "#define TENSOR_CORES\n" : "")) {
        $0 + String(decoding: $1, as: UTF8.self)
    }
}
