import FeedbackTraining
import Foundation
import GRDB

/// A run as the history knows it.
public struct Run: Codable, Equatable, Sendable, FetchableRecord, MutablePersistableRecord {
    public static let databaseTableName = "runs"

    /// What the run's own process has said of it last.
    public enum Status: String, CaseIterable, Codable, Sendable {
        case running
        /// The last step has been taken, or patience has run out.
        case finished
        /// It was asked to stop, and has saved.
        case interrupted
        /// It ended with an error.
        case failed
        /// It was running, but its process is gone: never stored, see `state`.
        case crashed
    }

    public internal(set) var id: Int64?
    /// The folder's last component.
    public var name: String
    /// The run's folder, absolute.
    public var folder: String
    public var status: Status
    /// Every setting, by name.
    public var configuration: [String: String]
    /// Of the folder that training began in: git's commit, `+` behind it where something was changed since.
    public var revision: String?
    public var machine: String
    public var host: String
    public var process: Int32
    /// Seconds since 1970, as all times.
    public var created: Double
    /// When the run's process has last said that it is there.
    public var updated: Double
    public var ended: Double?
    public var step: Int
    public var totalSteps: Int
    /// Of the last step.
    public var loss: Double?
    public var validation: Double?
    public var bestValidation: Double?
    /// Smoothed.
    public var tokensPerSecond: Double?
    /// Why it failed.
    public var failure: String?

    /// What the run is doing. One whose process is gone without a word has crashed, and so has one that has not been
    /// heard of for a minute, unless it still holds its folder: a process that has been stopped (SIGSTOP) does. Its
    /// folder says how a run has ended that could not tell the history.
    public func state(at time: Date = .now) -> Status {
        guard status == .running else { return status }
        let isHere = host == ProcessInfo.processInfo.hostName
        let isGone = isHere && kill(process, 0) != 0 && errno == ESRCH
        if !isGone && time.timeIntervalSince1970 - updated <= 60 { return .running }
        let url = URL(filePath: folder)
        let file = RunFile(of: url)
        // Another run may have begun in its place.
        if let file, file.began != created { return .crashed }
        return !isGone && RunFolder.isTaken(url) ? .running : file?.status ?? .crashed
    }

    public mutating func didInsert(_ inserted: InsertionSuccess) { id = inserted.rowID }
}

/// What a run has left in the history, in the order of steps.
public struct RunMetrics: Codable, Equatable, Sendable {
    public struct Step: Codable, Equatable, Sendable, FetchableRecord, PersistableRecord {
        public static let databaseTableName = "steps"
        var run: Int64
        public var step: Int
        public var time: Double
        public var loss, accuracy, learningRate: Double
        /// nil where it was not finite, and so changed nothing.
        public var gradientNorm: Double?
        public var seconds: Double
        public var tokens: Int
    }
    public struct Validation: Codable, Equatable, Sendable, FetchableRecord, PersistableRecord {
        public static let databaseTableName = "validations"
        var run: Int64
        public var step: Int
        public var time: Double
        public var loss, bitsPerCharacter, perplexity, accuracy: Double
        public var tokens: Int
        /// softmax(w), the embedding's first; nil for a model without.
        public var layerWeights: [Double]?
    }
    public struct Sample: Codable, Equatable, Sendable, FetchableRecord, PersistableRecord {
        public static let databaseTableName = "samples"
        var run: Int64
        public var step: Int
        public var time: Double
        public var text: String
    }
    public struct Checkpoint: Codable, Equatable, Sendable, FetchableRecord, PersistableRecord {
        public static let databaseTableName = "checkpoints"
        var run: Int64
        public var step: Int
        public var time: Double
        public var path: String
    }

    public var steps: [Step] = []
    public var validations: [Validation] = []
    public var samples: [Sample] = []
    public var checkpoints: [Checkpoint] = []
}
