import FeedbackTransformer

/// Where to compute, as `--device` names it: `cpu`, `cuda`, `opencl`, or one of several as `cuda:1`.
public struct DeviceName: Equatable, Sendable, LosslessStringConvertible {
    public enum Driver: String, CaseIterable, Sendable {
        case cpu, cuda, opencl
    }
    public let driver: Driver
    /// Which of a driver's devices, from 0.
    public let number: Int

    public static let cpu = DeviceName("cpu")!

    /// Nil where it names no device.
    public init?(_ description: String) {
        let parts = description.split(separator: ":", omittingEmptySubsequences: false)
        guard let driver = Driver(rawValue: String(parts[0])), parts.count <= (driver == .cpu ? 1 : 2) else {
            return nil
        }
        guard let number = parts.count == 1 ? 0 : Int(parts[1]), (0..<1000).contains(number) else { return nil }
        (self.driver, self.number) = (driver, number)
    }

    public var description: String { number == 0 ? driver.rawValue : "\(driver.rawValue):\(number)" }

    /// What `--device` may be.
    public static let choices = "cpu, cuda, opencl, or one of several as cuda:1"

    func device() throws(ConfigurationError) -> any ComputeDevice {
        let all = try Self.all(driver)
        guard number < all.count else {
            throw ConfigurationError(
                "there is no device \(self): \(driver.rawValue) has \(all.count); feedback devices lists them")
        }
        try all[number].open()
        return all[number]
    }

    private static func all(_ driver: Driver) throws(ConfigurationError) -> [any ComputeDevice] {
        switch driver {
        case .cpu: preconditionFailure("the CPU has a backend of its own")
        case .cuda: return try CUDADevice.all.get()
        case .opencl: return try OpenCLDevice.all.get()
        }
    }

    /// Every device of a driver, or what is missing.
    ///
    /// - Parameter driver: one that is not the CPU's.
    public static func devices(_ driver: Driver) throws(ConfigurationError) -> [DeviceDescription] {
        try all(driver).enumerated().map { number, device in
            DeviceDescription(
                name: "\(driver.rawValue):\(number)", hardware: device.name, memoryBytes: device.memory,
                processors: device.groups)
        }
    }
}

/// A device that there is.
public struct DeviceDescription: Codable, Sendable {
    /// As `--device` takes it.
    public let name: String
    public let hardware: String
    public let memoryBytes: Int
    /// Groups of work-items that run at the same time.
    public let processors: Int

    public init(name: String, hardware: String, memoryBytes: Int, processors: Int) {
        (self.name, self.hardware, self.memoryBytes, self.processors) = (name, hardware, memoryBytes, processors)
    }
}
