import CDevice
import FeedbackTransformer
import Foundation
import Synchronization

/// OpenCL's functions, loaded once; or why not.
private let loaded: Result<OpenCLFunctions, ConfigurationError> = {
    var functions = OpenCLFunctions()
    switch device_load_opencl(&functions) {
    case 0: return .success(functions)
    case 1:
        return .failure(
            ConfigurationError(
                "there is no OpenCL driver; install the one of your GPU's maker, or, to compute on the CPU, apt's pocl-opencl-icd"
            ))
    default: return .failure(ConfigurationError("the OpenCL driver is older than OpenCL 1.2; install a newer one"))
    }
}()

/// A device of an OpenCL driver: any maker's GPU, or a CPU by PoCL.
final class OpenCLDevice: ComputeDevice, @unchecked Sendable {
    let name: String
    let memory, largestArray, groups, groupSize: Int
    private let localMemory: Int
    private let cl: OpenCLFunctions
    private let device: cl_device_id
    /// Both are there from `open` on.
    private nonisolated(unsafe) var context: cl_context!
    private nonisolated(unsafe) var queue: cl_command_queue!
    /// OpenCL C as new as the device has it: unasked it is 1.2 at most, where no fence orders what groups write.
    private let standard: String
    private let programs = Mutex<[Bool: Kernels]>([:])

    private final class Array: DeviceArray, @unchecked Sendable {
        let buffer: cl_mem
        private let release: (cl_mem?) -> Int32
        init(_ buffer: cl_mem, _ release: @escaping (cl_mem?) -> Int32) {
            (self.buffer, self.release) = (buffer, release)
        }
        deinit { _ = release(buffer) }
    }

    private final class Kernels: DeviceKernels, @unchecked Sendable {
        let program: cl_program
        var byName: [String: cl_kernel] = [:]
        init(_ program: cl_program) { self.program = program }
    }

    /// Every device of every driver, in their order.
    static let all: Result<[OpenCLDevice], ConfigurationError> = loaded.flatMap { cl in
        var devices: [OpenCLDevice] = []
        for platform in list({ cl.clGetPlatformIDs!($0, $1, $2) }) as [cl_platform_id?] {
            for device in list({ cl.clGetDeviceIDs!(platform, 0xFFFF_FFFF, $0, $1, $2) }) as [cl_device_id?] {
                devices.append(OpenCLDevice(cl, device!))
            }
        }
        return devices.isEmpty
            ? .failure(
                ConfigurationError("OpenCL has no device; install the driver of your GPU, or apt's pocl-opencl-icd"))
            : .success(devices)
    }

    /// What a function of OpenCL lists, asked first how many there are.
    private static func list<T>(_ ask: (UInt32, UnsafeMutablePointer<T?>?, UnsafeMutablePointer<UInt32>?) -> Int32)
        -> [T?]
    {
        var count: UInt32 = 0
        guard ask(0, nil, &count) == 0, count > 0 else { return [] }
        var found = [T?](repeating: nil, count: Int(count))
        return ask(count, &found, nil) == 0 ? found : []
    }

    private init(_ cl: OpenCLFunctions, _ device: cl_device_id) {
        func number(_ name: Int) -> Int {
            var value = 0
            _ = cl.clGetDeviceInfo!(device, UInt32(name), 8, &value, nil)
            return value
        }
        var label = [CChar](repeating: 0, count: 256)
        _ = cl.clGetDeviceInfo!(device, UInt32(CL_DEVICE_NAME), 255, &label, nil)
        name = text(label)
        _ = cl.clGetDeviceInfo!(device, UInt32(CL_DEVICE_VERSION), 255, &label, nil)
        let version = text(label)  // OpenCL 3.0 and so on
        standard =
            version.hasPrefix("OpenCL 3") ? "-cl-std=CL3.0" : version.hasPrefix("OpenCL 2") ? "-cl-std=CL2.0" : ""
        memory = number(CL_DEVICE_GLOBAL_MEM_SIZE)
        largestArray = number(CL_DEVICE_MAX_MEM_ALLOC_SIZE)
        groups = max(1, number(CL_DEVICE_MAX_COMPUTE_UNITS) & 0xFFFF_FFFF)
        // A CPU runs the work-items of a group one after the other: fewer of them wait less for each other.
        groupSize = number(CL_DEVICE_TYPE) & 2 != 0 ? 64 : 256
        localMemory = number(CL_DEVICE_LOCAL_MEM_SIZE)
        (self.cl, self.device) = (cl, device)
    }

    func open() throws(ConfigurationError) {
        guard localMemory >= 48 << 10 else {
            throw ConfigurationError(
                "\(name) has \(localMemory >> 10) KB of local memory, and the kernels take 48; compute on another device"
            )
        }
        let error = programs.withLock { _ in
            var error: Int32 = 0
            var id: cl_device_id? = device
            if context == nil { context = cl.clCreateContext!(nil, 1, &id, nil, nil, &error) }
            if error == 0 && queue == nil {
                queue = cl.clCreateCommandQueue!(context, device, UInt64(CL_QUEUE_PROFILING_ENABLE), &error)
            }
            return error
        }
        if error != 0 { throw ConfigurationError("OpenCL cannot use \(name) (error \(error)); is its driver whole?") }
    }

    func allocate(_ bytes: Int) throws -> any DeviceArray {
        var error: Int32 = 0
        let buffer =
            bytes <= largestArray ? cl.clCreateBuffer!(context, UInt64(CL_MEM_READ_WRITE), bytes, nil, &error) : nil
        guard let buffer, error == 0 else {
            throw ConfigurationError(
                "\(name) has no room for an array of \(bytes >> 20) MB (at most \(largestArray >> 20) MB); a smaller batch or model takes less"
            )
        }
        return Array(buffer, cl.clReleaseMemObject!)
    }

    func compile(narrow: Bool) throws -> any DeviceKernels {
        try programs.withLock { programs in
            if let kernels = programs[narrow] { return kernels }
            var error: Int32 = 0
            let source = kernelSource(groupSize: groupSize, narrow: narrow)
            let program = source.withCString { text in
                var texts: UnsafePointer<CChar>? = text
                return cl.clCreateProgramWithSource!(context, 1, &texts, nil, &error)
            }
            var id: cl_device_id? = device
            guard let program, error == 0, cl.clBuildProgram!(program, 1, &id, standard, nil, nil) == 0 else {
                var log = [CChar](repeating: 0, count: 1 << 16)
                if let program {
                    _ = cl.clGetProgramBuildInfo!(
                        program, device, UInt32(CL_PROGRAM_BUILD_LOG), log.count - 1, &log, nil)
                }
                throw ConfigurationError(
                    "the driver of \(name) does not compile the kernels: \(firstError(log)); a newer driver may")
            }
            let kernels = Kernels(program)
            programs[narrow] = kernels
            return kernels
        }
    }

    func write(_ bytes: UnsafeRawBufferPointer, to array: any DeviceArray, at offset: Int) {
        if bytes.isEmpty { return }
        check(cl.clEnqueueWriteBuffer!(queue, buffer(array), 1, offset, bytes.count, bytes.baseAddress, 0, nil, nil))
    }
    func read(_ array: any DeviceArray, at offset: Int, into bytes: UnsafeMutableRawBufferPointer) {
        if bytes.isEmpty { return }
        check(cl.clEnqueueReadBuffer!(queue, buffer(array), 1, offset, bytes.count, bytes.baseAddress, 0, nil, nil))
    }
    func clear(_ array: any DeviceArray, at offset: Int, bytes: Int) {
        if bytes == 0 { return }
        var zero: UInt8 = 0
        check(cl.clEnqueueFillBuffer!(queue, buffer(array), &zero, 1, offset, bytes, 0, nil, nil))
    }
    func copy(_ from: any DeviceArray, at offset: Int, to: any DeviceArray, at place: Int, bytes: Int) {
        check(cl.clEnqueueCopyBuffer!(queue, buffer(from), buffer(to), offset, place, bytes, 0, nil, nil))
    }
    func finish() { check(cl.clFinish!(queue)) }
    func seconds(_ body: () -> Void) -> Double {
        func marker() -> cl_event? {
            var event: cl_event?
            check(cl.clEnqueueMarkerWithWaitList!(queue, 0, nil, &event))
            return event
        }
        finish()
        let start = marker()
        body()
        let end = marker()
        finish()
        let nanoseconds = [start, end].map { event in
            var time: UInt64 = 0
            check(cl.clGetEventProfilingInfo!(event, UInt32(CL_PROFILING_COMMAND_END), 8, &time, nil))
            check(cl.clReleaseEvent!(event))
            return time
        }
        return Double(max(nanoseconds[1], nanoseconds[0]) - nanoseconds[0]) / 1e9
    }

    func run(_ kernels: any DeviceKernels, _ name: String, groups: Int, persistent: Bool, _ arguments: [KernelArgument])
    {
        guard let kernels = kernels as? Kernels else { preconditionFailure("kernels of another device") }
        // A kernel's arguments are set, and it is put into the queue, by one thread at a time.
        programs.withLock { _ in
            var error: Int32 = 0
            if kernels.byName[name] == nil { kernels.byName[name] = cl.clCreateKernel!(kernels.program, name, &error) }
            check(error)
            let kernel = kernels.byName[name]
            for (index, argument) in arguments.enumerated() {
                func set<T>(_ value: T) {
                    withUnsafeBytes(of: value) {
                        check(cl.clSetKernelArg!(kernel, UInt32(index), $0.count, $0.baseAddress))
                    }
                }
                switch argument {
                case .array(let array): set(Optional(buffer(array)))
                case .int(let value): set(Int32(value))
                case .long(let value): set(value)
                case .float(let value): set(Float(value))
                case .shape(let shape): set(shape)
                }
            }
            var (global, local) = (groups * groupSize, groupSize)
            check(cl.clEnqueueNDRangeKernel!(queue, kernel, 1, nil, &global, &local, 0, nil, nil))
        }
    }

    private func buffer(_ array: any DeviceArray) -> cl_mem {
        guard let array = array as? Array else { preconditionFailure("an array of another device") }
        return array.buffer
    }

    private func check(_ error: Int32) {
        if error != 0 {
            deviceFailed(name, "OpenCL error \(error)\(error == -4 || error == -5 ? ", out of memory" : "")")
        }
    }
}
