import Foundation

// Where a run comes from: the code's revision and the machine.

/// The commit of the current folder, `+` behind it where files have changed since; nil where git knows none.
func revision() -> String? {
    func git(_ arguments: String...) -> String? {
        let (process, output) = (Process(), Pipe())
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["git"] + arguments
        (process.standardOutput, process.standardError) = (output, FileHandle.nullDevice)
        guard (try? process.run()) != nil else { return nil }
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { return nil }
        return String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }
    guard let commit = git("rev-parse", "--short=12", "HEAD"), !commit.isEmpty else { return nil }
    return commit + (git("status", "--porcelain", "--untracked-files=no")?.isEmpty == false ? "+" : "")
}

/// Processor, cores, memory and system, as people name them.
func machine() -> String {
    let information = ProcessInfo.processInfo
    let gibibytes = Double(information.physicalMemory) / Double(1 << 30)
    return [
        processor(), "\(information.activeProcessorCount) cores", String(format: "%.0f GiB", gibibytes),
        information.operatingSystemVersionString,
    ].compactMap(\.self).joined(separator: ", ")
}

private func processor() -> String? {
    #if os(macOS)
        var size = 0
        guard sysctlbyname("machdep.cpu.brand_string", nil, &size, nil, 0) == 0 else { return nil }
        var bytes = [UInt8](repeating: 0, count: size)
        guard sysctlbyname("machdep.cpu.brand_string", &bytes, &size, nil, 0) == 0 else { return nil }
        return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    #else
        let lines = try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8).split(separator: "\n")
        return lines?.first { $0.hasPrefix("model name") }?.split(separator: ":", maxSplits: 1).last
            .map { $0.trimmingCharacters(in: .whitespaces) }
    #endif
}
