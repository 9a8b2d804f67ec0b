import CDevice
import FeedbackTransformer
import Foundation
import Synchronization

/// CUDA's driver, loaded once; or why not.
private let loaded: Result<CUDAFunctions, ConfigurationError> = {
    var functions = CUDAFunctions()
    switch device_load_cuda(&functions) {
    case 0:
        var (version, count): (Int32, Int32) = (0, 0)
        var error = functions.cuInit!(0)
        if error == 0 { error = functions.cuDeviceGetCount!(&count) }
        guard error == 0, count > 0 else {
            let why = error == 0 ? "" : " (\(description(of: error, functions)))"
            return .failure(ConfigurationError("the NVIDIA driver finds no GPU\(why); nvidia-smi shows what it sees"))
        }
        guard functions.cuDriverGetVersion!(&version) == 0, version >= 12000 else {
            return .failure(
                ConfigurationError(
                    "the NVIDIA driver is for CUDA \(version / 1000).\(version % 1000 / 10); install one for 12.0 or newer"
                ))
        }
        return .success(functions)
    case 1: return .failure(ConfigurationError("there is no NVIDIA driver; install it, or use --device opencl or cpu"))
    default: return .failure(ConfigurationError("the NVIDIA driver is too old; install one for CUDA 12.0 or newer"))
    }
}()

private func description(of error: Int32, _ cuda: CUDAFunctions) -> String {
    var text: UnsafePointer<CChar>?
    _ = cuda.cuGetErrorString!(error, &text)
    return "CUDA error \(error)\(text.map { ", " + String(cString: $0) } ?? "")"
}

/// CUDA's compiler, loaded once; or why not. A driver takes no code of a compiler newer than itself.
private let compiler: Result<NVRTCFunctions, ConfigurationError> = {
    var functions = NVRTCFunctions()
    var version: Int32 = 0
    if case .success(let cuda) = loaded { _ = cuda.cuDriverGetVersion!(&version) }
    if device_load_nvrtc(&functions, version / 1000) == 0 { return .success(functions) }
    // What PyPI has under the plain name is always the newest.
    let package = version < 13000 ? "nvidia-cuda-nvrtc-cu12" : "nvidia-cuda-nvrtc==\(version / 1000).*"
    return .failure(
        ConfigurationError(
            "CUDA's compiler, libnvrtc, is not there; install the CUDA toolkit, or PyPI's \(package), and name its folder in LD_LIBRARY_PATH"
        ))
}()

/// A GPU by CUDA's driver interface.
final class CUDADevice: ComputeDevice, @unchecked Sendable {
    let name: String
    let memory, groups: Int
    let groupSize = 256
    var largestArray: Int { memory }
    private let cuda: CUDAFunctions
    private let number: Int32
    private let capability: Int
    /// There is one from `open` on.
    private nonisolated(unsafe) var context: CUcontext?
    private let programs = Mutex<[Bool: Kernels]>([:])

    private final class Array: DeviceArray, @unchecked Sendable {
        let address: UInt64
        private let device: CUDADevice
        init(_ address: UInt64, _ device: CUDADevice) { (self.address, self.device) = (address, device) }
        deinit {
            device.makeCurrent()
            _ = device.cuda.cuMemFree!(address)
        }
    }

    private final class Kernels: DeviceKernels, @unchecked Sendable {
        let module: CUmodule
        var byName: [String: CUfunction] = [:]
        init(_ module: CUmodule) { self.module = module }
    }

    static let all: Result<[CUDADevice], ConfigurationError> = loaded.flatMap { cuda in
        var count: Int32 = 0
        _ = cuda.cuDeviceGetCount!(&count)
        do throws(ConfigurationError) {
            var devices: [CUDADevice] = []
            for number in 0..<count { devices.append(try CUDADevice(cuda, number)) }
            return .success(devices)
        } catch { return .failure(error) }
    }

    private init(_ cuda: CUDAFunctions, _ number: Int32) throws(ConfigurationError) {
        var (device, bytes): (Int32, Int) = (0, 0)
        var label = [CChar](repeating: 0, count: 256)
        guard cuda.cuDeviceGet!(&device, number) == 0, cuda.cuDeviceGetName!(&label, 255, device) == 0,
            cuda.cuDeviceTotalMem!(&bytes, device) == 0
        else { throw ConfigurationError("the NVIDIA driver cannot use GPU \(number); nvidia-smi may say why") }
        func attribute(_ name: Int) -> Int {
            var value: Int32 = 0
            _ = cuda.cuDeviceGetAttribute!(&value, Int32(name), device)
            return Int(value)
        }
        name = text(label)
        memory = bytes
        groups = attribute(CUDA_MULTIPROCESSORS)
        capability = 10 * attribute(CUDA_MAJOR) + attribute(CUDA_MINOR)
        (self.cuda, self.number) = (cuda, device)
    }

    func open() throws(ConfigurationError) {
        guard capability >= 70 else {
            throw ConfigurationError("\(name) is too old; compute capability 7.0 is needed")
        }
        let isOpen = programs.withLock { _ in
            context != nil || cuda.cuDevicePrimaryCtxRetain!(&context, number) == 0
        }
        if !isOpen { throw ConfigurationError("the NVIDIA driver cannot use \(name); nvidia-smi may say why") }
    }

    func allocate(_ bytes: Int) throws -> any DeviceArray {
        var address: UInt64 = 0
        makeCurrent()
        guard cuda.cuMemAlloc!(&address, bytes) == 0 else {
            throw ConfigurationError(
                "\(name) has no room for an array of \(bytes >> 20) MB; a smaller batch or model takes less")
        }
        return Array(address, self)
    }

    func compile(narrow: Bool) throws -> any DeviceKernels {
        try programs.withLock { programs in
            if let kernels = programs[narrow] { return kernels }
            let source = kernelSource(groupSize: groupSize, narrow: narrow, tensorCores: capability >= 80)
            // Kept where they have been compiled before, by source and GPU; what the driver does not take is made anew.
            let hash = source.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
            let file = cacheFolder.appending(path: "kernels-sm_\(capability)-\(String(hash, radix: 16)).cubin")
            makeCurrent()
            var module = (try? Data(contentsOf: file)).flatMap { load([UInt8]($0)) }
            if module == nil {
                let image = try image(source)
                module = load(image)
                // Without a cache they are compiled again the next time.
                try? FileManager.default.createDirectory(at: cacheFolder, withIntermediateDirectories: true)
                if module != nil { try? Data(image).write(to: file, options: .atomic) }
            }
            guard let module else {
                throw ConfigurationError("\(name)'s driver does not load the kernels; one as new as libnvrtc does")
            }
            let kernels = Kernels(module)
            programs[narrow] = kernels
            return kernels
        }
    }

    private func load(_ image: [UInt8]) -> CUmodule? {
        var module: CUmodule?
        return cuda.cuModuleLoadData!(&module, image) == 0 ? module : nil
    }

    /// The kernels, compiled for this GPU.
    private func image(_ source: String) throws -> [UInt8] {
        let nvrtc = try compiler.get()
        var program: nvrtcProgram?
        let options = ["--gpu-architecture=sm_\(capability)", "--std=c++17"]
        let pointers = options.map { strdup($0) }
        defer { for pointer in pointers { free(pointer) } }
        var texts = pointers.map { UnsafePointer<CChar>($0) }
        guard nvrtc.nvrtcCreateProgram!(&program, source, "kernels.cu", 0, nil, nil) == 0 else {
            throw ConfigurationError("CUDA's compiler, libnvrtc, does not work; install it anew")
        }
        defer { _ = nvrtc.nvrtcDestroyProgram!(&program) }
        var size = 0
        guard nvrtc.nvrtcCompileProgram!(program, Int32(texts.count), &texts) == 0 else {
            _ = nvrtc.nvrtcGetProgramLogSize!(program, &size)
            var log = [CChar](repeating: 0, count: size + 1)
            _ = nvrtc.nvrtcGetProgramLog!(program, &log)
            throw ConfigurationError(
                "libnvrtc does not compile the kernels for \(name): \(firstError(log)); a newer one may")
        }
        guard nvrtc.nvrtcGetCUBINSize!(program, &size) == 0, size > 0 else {
            throw ConfigurationError("libnvrtc is too old for \(name); install a newer one")
        }
        var image = [CChar](repeating: 0, count: size)
        guard nvrtc.nvrtcGetCUBIN!(program, &image) == 0 else {
            throw ConfigurationError("CUDA's compiler, libnvrtc, does not work; install it anew")
        }
        return image.map { UInt8(truncatingIfNeeded: $0) }
    }

    func write(_ bytes: UnsafeRawBufferPointer, to array: any DeviceArray, at offset: Int) {
        if bytes.isEmpty { return }
        makeCurrent()
        check(cuda.cuMemcpyHtoD!(address(array) + UInt64(offset), bytes.baseAddress, bytes.count))
    }
    func read(_ array: any DeviceArray, at offset: Int, into bytes: UnsafeMutableRawBufferPointer) {
        if bytes.isEmpty { return }
        makeCurrent()
        check(cuda.cuMemcpyDtoH!(bytes.baseAddress, address(array) + UInt64(offset), bytes.count))
    }
    func clear(_ array: any DeviceArray, at offset: Int, bytes: Int) {
        if bytes == 0 { return }
        makeCurrent()
        check(cuda.cuMemsetD8!(address(array) + UInt64(offset), 0, bytes))
    }
    func copy(_ from: any DeviceArray, at offset: Int, to: any DeviceArray, at place: Int, bytes: Int) {
        makeCurrent()
        check(cuda.cuMemcpyDtoD!(address(to) + UInt64(place), address(from) + UInt64(offset), bytes))
    }
    func finish() {
        makeCurrent()
        check(cuda.cuCtxSynchronize!())
    }
    func seconds(_ body: () -> Void) -> Double {
        func event() -> CUevent? {
            var event: CUevent?
            check(cuda.cuEventCreate!(&event, 0))
            return event
        }
        finish()
        let (start, end) = (event(), event())
        check(cuda.cuEventRecord!(start, nil))
        body()
        makeCurrent()
        check(cuda.cuEventRecord!(end, nil))
        check(cuda.cuEventSynchronize!(end))
        var milliseconds: Float = 0
        check(cuda.cuEventElapsedTime!(&milliseconds, start, end))
        for event in [start, end] { check(cuda.cuEventDestroy!(event)) }
        return Double(milliseconds) / 1000
    }

    func run(_ kernels: any DeviceKernels, _ name: String, groups: Int, persistent: Bool, _ arguments: [KernelArgument])
    {
        guard let kernels = kernels as? Kernels else { preconditionFailure("kernels of another device") }
        makeCurrent()
        nonisolated(unsafe) var function: CUfunction?
        programs.withLock { _ in
            function = kernels.byName[name]
            if function == nil {
                check(cuda.cuModuleGetFunction!(&function, kernels.module, name))
                kernels.byName[name] = function
            }
        }
        // The driver copies every argument from where a list of pointers says that it is.
        let room = UnsafeMutableRawPointer.allocate(byteCount: 128 * arguments.count, alignment: 16)
        defer { room.deallocate() }
        var pointers = arguments.enumerated().map { index, argument -> UnsafeMutableRawPointer? in
            let place = room + 128 * index
            switch argument {
            case .array(let array): place.storeBytes(of: address(array), as: UInt64.self)
            case .int(let value): place.storeBytes(of: Int32(value), as: Int32.self)
            case .long(let value): place.storeBytes(of: value, as: Int.self)
            case .float(let value): place.storeBytes(of: Float(value), as: Float.self)
            case .shape(let shape): place.storeBytes(of: shape, as: Shape.self)
            }
            return place
        }
        let (grid, block) = (UInt32(groups), UInt32(groupSize))
        check(
            persistent
                ? cuda.cuLaunchCooperativeKernel!(function, grid, 1, 1, block, 1, 1, 0, nil, &pointers)
                : cuda.cuLaunchKernel!(function, grid, 1, 1, block, 1, 1, 0, nil, &pointers, nil))
    }

    private func makeCurrent() { check(cuda.cuCtxSetCurrent!(context)) }

    private func address(_ array: any DeviceArray) -> UInt64 {
        guard let array = array as? Array else { preconditionFailure("an array of another device") }
        return array.address
    }

    private func check(_ error: Int32) {
        if error != 0 { deviceFailed(name, description(of: error, cuda)) }
    }
}
