import Foundation

/// What a benchmark measured, and what the machine would allow.
public struct BenchmarkReport: Encodable, Sendable {
    public let preset: String
    public let precision: String
    public let threads: Int
    /// From the median step.
    public let tokensPerSecond: Double
    /// What the machine's own rate, measured between the steps, would allow.
    public let limitTokensPerSecond: Double
    /// The first by the second.
    public let utilization: Double
    /// The same from the fastest step and the limit's fastest measurement, which depend less on what else the machine does.
    public let bestUtilization: Double
    /// Operations a second (training) or bytes a second (generation) at the limit.
    public let limitRate: Double
    /// Of the whole process, before the limit was measured.
    public let peakMemoryBytes: Int
    /// Seconds a step, by what they were spent on.
    public let phases: [String: Double]
    public let secondsPerStep: Double
    public let stepsTimed: Int
    /// The largest error of the check against the Double reference, as a share of its tolerance.
    public let verifiedWithin: Double

    /// - Parameters:
    ///   - seconds, limits: of every step, and of what takes its place at the limit.
    ///   - work: operations or bytes of a step.
    init(
        _ preset: RunConfiguration.Preset, precision: String, threads: Int, tokens: Int, seconds: [Double],
        limits: [Double], work: Double, peakMemoryBytes: Int, phases: [String: Double], verifiedWithin: Double
    ) {
        self.preset = preset.rawValue
        self.precision = precision
        self.threads = threads
        secondsPerStep = median(seconds)
        stepsTimed = seconds.count
        tokensPerSecond = Double(tokens) / median(seconds)
        limitTokensPerSecond = Double(tokens) / median(limits)
        utilization = median(limits) / median(seconds)
        bestUtilization = limits.min()! / seconds.min()!
        limitRate = work / median(limits)
        self.peakMemoryBytes = peakMemoryBytes
        self.phases = phases
        self.verifiedWithin = verifiedWithin
    }
}

/// Measures steps and their limits in turn, so that both see the same machine, a quarter of a second of steps at a time,
/// so that most of them find the caches as the step before left them: `count` steps, or where nil, at least three and
/// about ten seconds of both.
func alternate(_ count: Int?, step: () -> Double, limit: () -> Double) -> (steps: [Double], limits: [Double]) {
    var (steps, limits): ([Double], [Double]) = ([], [])
    let start = ContinuousClock.now
    func goesOn() -> Bool {
        count.map { steps.count < $0 } ?? (steps.count < 3 || ContinuousClock.now - start < .seconds(10))
    }
    while goesOn() {
        let turn = ContinuousClock.now
        repeat { steps.append(step()) } while goesOn() && ContinuousClock.now - turn < .milliseconds(250)
        while limits.count < steps.count { limits.append(limit()) }
    }
    return (steps, limits)
}

/// The most memory that this process has had at once.
func peakMemory() -> Int {
    #if os(Linux)
        // Not getrusage: its maximum begins with what the parent process had.
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        return (line?.split(whereSeparator: \.isWhitespace).dropFirst().first).flatMap { Int($0) }.map { $0 << 10 } ?? 0
    #else
        var usage = rusage()
        getrusage(RUSAGE_SELF, &usage)
        return usage.ru_maxrss
    #endif
}
