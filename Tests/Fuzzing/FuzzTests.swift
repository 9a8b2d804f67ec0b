import FeedbackTransformer
import Foundation
import Testing

/// Whatever comes from outside, damaged in all ways that parsers break of, is read, or refused in one line: no trap, none
/// over ten seconds, none over a gibibyte more than there was.
///
/// `make fuzz SECONDS=600` tries as many inputs as that time allows, with `KIND=pytorch` of one kind only; an ordinary run of the
/// tests tries some hundreds. Each lies on the disk while it is tried, in a process of its own: what ends that process is found
/// there. What was found once and is mended belongs into `Corpus`, in the folder of its kind, and is tried first from then on.
@Suite struct FuzzTests {
    @Test func hostileInputsAreReadOrRefused() async throws {
        let fuzzer = Fuzzer(of: getpid())
        try FileManager.default.createDirectory(at: fuzzer.inputs, withIntermediateDirectories: true)
        await #expect(processExitsWith: .success) { try await Fuzzer(of: getppid()).run() }
        print(String(decoding: try Data(contentsOf: fuzzer.log), as: UTF8.self))
        let found = try FileManager.default.contentsOfDirectory(atPath: fuzzer.inputs.path)
        for name in found.sorted() {
            let path = fuzzer.inputs.appending(path: name).path
            Issue.record("\(name) was neither read nor refused; to repeat it: make fuzz INPUT=\(path)")
        }
        if found.isEmpty { try FileManager.default.removeItem(at: fuzzer.url) }
    }
}

/// Tries inputs, one after the other.
struct Fuzzer: Sendable {
    let url: URL
    var inputs: URL { url.appending(path: "inputs") }
    var log: URL { url.appending(path: "log") }
    private let seed: UInt64
    /// How long; where nil, some rounds.
    private let seconds: Double?
    /// The one kind of inputs to try.
    private let kind: String?
    /// The one input to try.
    private let only: URL?

    /// - Parameter process: the one that runs the tests.
    init(of process: Int32) {
        url = FileManager.default.temporaryDirectory.appending(path: "feedback-fuzz-\(process)")
        let environment = ProcessInfo.processInfo.environment
        func asked(_ name: String) -> String? {
            environment["FEEDBACK_TEST_FUZZ_\(name)"].flatMap { $0.isEmpty ? nil : $0 }
        }
        seed = asked("SEED").flatMap(UInt64.init) ?? 1
        seconds = asked("SECONDS").flatMap(Double.init)
        kind = asked("KIND")
        only = asked("INPUT").map { URL(filePath: $0) }
    }

    func run() async throws {
        // What a trap says goes there too.
        let (file, standardError) = (open(log.path, O_WRONLY | O_CREAT | O_APPEND, 0o644), dup(STDERR_FILENO))
        dup2(file, STDERR_FILENO)
        defer { dup2(standardError, STDERR_FILENO) }
        let all = try await Subject.all(in: url.appending(path: "place"))
        let subjects = kind.map { kind in all.filter { $0.name == kind } } ?? all
        if subjects.isEmpty { throw Wrong(description: "\(kind ?? "") is none of the kinds \(all.map(\.name))") }
        try limitMemory()
        let found: Int = try await withCheckedThrowingContinuation { continuation in
            // A thread of its own: the server has those that async functions share.
            Thread { continuation.resume(with: Result { try tryAll(subjects) }) }.start()
        }
        if found > 0 { throw Wrong(description: "\(found) findings") }
    }

    // MARK: Limits

    private static let secondsOfOne: UInt32 = 10
    private static let memoryOfOne = 1 << 30
    /// Of a message.
    private static let lettersOfOne = 1200
    private static func isControl(_ scalar: Unicode.Scalar) -> Bool { scalar.properties.generalCategory == .control }

    /// Whatever asks for more memory than that from now on, ends the process.
    private func limitMemory() throws {
        #if os(Linux)
            let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8).split(separator: "\n")
            let taken = status.first { $0.hasPrefix("VmData:") }?.split(whereSeparator: \.isWhitespace)[1]
            let most = rlim_t((taken.flatMap { Int($0) } ?? 0) << 10 + Self.memoryOfOne)
            var limit = rlimit(rlim_cur: most, rlim_max: most)
            setrlimit(__rlimit_resource_t(RLIMIT_DATA.rawValue), &limit)
        #endif
    }

    /// The most memory that the process has had, in bytes.
    private static var peak: Int {
        var usage = rusage()
        #if os(Linux)
            getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
            return usage.ru_maxrss << 10
        #else
            getrusage(RUSAGE_SELF, &usage)
            return usage.ru_maxrss
        #endif
    }

    // MARK: The loop

    /// How many inputs of a kind have been read and refused.
    private struct Tally {
        var read = 0
        var refused = 0
    }

    /// - Returns: how many were neither read nor refused and yet ended nothing.
    private func tryAll(_ subjects: [Subject]) throws -> Int {
        let (start, peak) = (ContinuousClock.now, Self.peak)
        var tallies = subjects.map { _ in Tally() }
        var slowest = (time: Duration.zero, input: "")
        var found = 0
        func attempt(_ index: Int, _ name: String, _ input: [UInt8]) throws {
            let file = inputs.appending(path: name)
            try Data(input).write(to: file)
            let start = ContinuousClock.now
            alarm(Self.secondsOfOne)
            defer { alarm(0) }
            do {
                do {
                    try subjects[index].read(input)
                    tallies[index].read += 1
                } catch  where !(error is Wrong) {
                    tallies[index].refused += 1
                    let message = "\(error)"
                    guard message.count <= Self.lettersOfOne, !message.unicodeScalars.contains(where: Self.isControl)
                    else { throw Wrong(description: "refused in other than one line: \(message.debugDescription)") }
                }
                if Self.peak - peak > Self.memoryOfOne {
                    throw Wrong(description: "\(Self.peak - peak) bytes of memory")
                }
                unlink(file.path)
            } catch {
                found += 1
                say("\(name): \(error)")
            }
            let time = ContinuousClock.now - start
            if time > slowest.time { slowest = (time, name) }
        }
        if let only {
            let kinds = [
                only.lastPathComponent.prefix { $0 != "-" }, only.deletingLastPathComponent().lastPathComponent[...],
            ]
            guard let index = subjects.firstIndex(where: { kinds.contains($0.name[...]) }) else {
                throw Wrong(description: "\(only.path) is named after none of \(subjects.map(\.name))")
            }
            try attempt(index, only.lastPathComponent, Array(try Data(contentsOf: only)))
        } else {
            var number = 0
            while seconds.map({ ContinuousClock.now - start < .seconds($0) }) ?? (number < 50 * subjects.count) {
                let (round, index) = number.quotientAndRemainder(dividingBy: subjects.count)
                let corpus = subjects[index].corpus
                // Each input's own source: it does not depend on those before.
                let random = RandomSource(seed: seed &+ UInt64(number) &* 0x9e37_79b9_7f4a_7c15)
                var mutator = Mutator(corpus: corpus, random: random)
                let input = round < corpus.count ? corpus[round] : mutator.next()
                try attempt(index, "\(subjects[index].name)-\(seed)-\(number)", input)
                number += 1
            }
        }
        let kinds = zip(subjects, tallies).map { "\($0.name) \($1.read) read, \($1.refused) refused" }
        say(
            "fuzz: \(tallies.reduce(0) { $0 + $1.read + $1.refused }) inputs in \(ContinuousClock.now - start), seed \(seed): "
                + kinds.joined(separator: "; ") + "; slowest \(slowest.time) (\(slowest.input)), "
                + "peak memory \(Self.peak >> 20) MiB, \(peak >> 20) MiB before")
        return found
    }

    private func say(_ line: String) { FileHandle.standardError.write(Data("\(line)\n".utf8)) }
}
