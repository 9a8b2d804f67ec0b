import ArgumentParser
import FeedbackDevice
import FeedbackTransformer
import Foundation

struct Devices: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Lists what can compute on this machine.",
        discussion: """
            What --device takes, with its memory; and of what is missing, how to get it.

            Example:
              feedback devices
            """)

    @Flag(help: "Print one JSON object.")
    var json = false

    private struct Report: Encodable {
        var devices: [DeviceDescription]
        /// By driver.
        var missing: [String: String] = [:]
    }

    func run() throws {
        let machine = ProcessInfo.processInfo
        var report = Report(devices: [
            DeviceDescription(
                name: "cpu", hardware: "this machine's processor", memoryBytes: Int(machine.physicalMemory),
                processors: machine.activeProcessorCount)
        ])
        for driver in DeviceName.Driver.allCases where driver != .cpu {
            do { report.devices += try DeviceName.devices(driver) } catch {
                report.missing[driver.rawValue] = error.description
            }
        }
        if json { return try printResult(try jsonText(report)) }
        for device in report.devices {
            let memory = String(format: "%.1f GiB", Double(device.memoryBytes) / 0x1p30)
            try printResult("\(device.name): \(device.hardware), \(memory), \(device.processors) processors")
        }
        for (driver, why) in report.missing.sorted(by: { $0.key < $1.key }) { try printResult("\(driver): \(why)") }
    }
}

extension DeviceName: ExpressibleByArgument {}
