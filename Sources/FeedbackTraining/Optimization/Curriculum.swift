import FeedbackTransformer

/// Sequences that begin short and grow: from which step on they have which length, as `0:16,500:32,1000:64`.
///
/// The batch shrinks as they grow, so that every step takes as many tokens as `sequence-length` · `batch-size`, to the
/// nearest whole number of sequences.
public struct Curriculum: Equatable, Sendable, CustomStringConvertible {
    public struct Stage: Equatable, Sendable {
        /// Optimizer steps taken before it.
        public let start: Int
        public let sequenceLength: Int
    }

    /// At least one; the first starts at 0, each later than the one before.
    public let stages: [Stage]

    /// Reads `step:length` pairs. Throws with what is wrong with them.
    public init(_ text: String) throws(ConfigurationError) {
        var stages: [Stage] = []
        for pair in text.split(separator: ",", omittingEmptySubsequences: false) {
            let numbers = pair.split(separator: ":", omittingEmptySubsequences: false).map { Int($0) }
            guard numbers.count == 2, let start = numbers[0], let length = numbers[1], start >= 0,
                (1...65536).contains(length)
            else {
                throw ConfigurationError(
                    "curriculum has \(String(pair).debugDescription); it must be step:length pairs such as "
                        + "0:16,500:32,1000:64, with lengths from 1 to 65536")
            }
            if let last = stages.last, start <= last.start {
                throw ConfigurationError(
                    "curriculum has step \(start) after step \(last.start); the steps must increase")
            }
            stages.append(Stage(start: start, sequenceLength: length))
        }
        guard stages[0].start == 0 else {
            throw ConfigurationError("curriculum begins at step \(stages[0].start); its first pair must be 0:length")
        }
        self.stages = stages
    }

    public var description: String { stages.map { "\($0.start):\($0.sequenceLength)" }.joined(separator: ",") }
}

extension RunConfiguration {
    /// The stages of the curriculum; without one, a single stage.
    var stages: [Curriculum.Stage] {
        curriculum?.stages ?? [Curriculum.Stage(start: 0, sequenceLength: sequenceLength)]
    }

    /// The sequences of a batch of that length.
    func batchSize(sequenceLength length: Int) -> Int {
        max(1, Int((Double(batchSize * sequenceLength) / Double(length)).rounded()))
    }
}
