import FeedbackTransformer

/// A task's training sequences from easy to hard, as `0:2-12,95%:2-40,99%:100`: how difficult they are, a number or a range,
/// and from when on: a step, or the share of the answers that the lesson before must have got right.
///
/// The share is counted anew over every 100 steps. What validation and test measure is always the standard task.
public struct Lessons: Equatable, Sendable, CustomStringConvertible {
    public enum Start: Equatable, Sendable, CustomStringConvertible {
        /// Optimizer steps taken before it.
        case step(Int)
        /// The share of right answers in the lesson before, in percent.
        case accuracy(Double)

        public var description: String {
            switch self {
            case .step(let step): "\(step)"
            case .accuracy(let percent): "\(percent == percent.rounded() ? "\(Int(percent))" : "\(percent)")%"
            }
        }
    }

    public struct Lesson: Equatable, Sendable {
        public let start: Start
        public let difficulty: ClosedRange<Int>
    }

    /// The steps over which answers are counted.
    static let counted = 100

    /// At least one; the first starts at step 0.
    public let lessons: [Lesson]

    /// Lessons of which each but the first begins when so much of the one before is right.
    public init(_ first: ClosedRange<Int>, then later: [(percent: Double, difficulty: ClosedRange<Int>)] = []) {
        lessons =
            [Lesson(start: .step(0), difficulty: first)]
            + later.map { Lesson(start: .accuracy($0.percent), difficulty: $0.difficulty) }
    }

    /// Reads `start:difficulty` pairs. Throws with what is wrong with them.
    public init(_ text: String) throws(ConfigurationError) {
        var lessons: [Lesson] = []
        var lastStep = -1
        for pair in text.split(separator: ",", omittingEmptySubsequences: false) {
            let parts = pair.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count == 2, let start = Self.start(parts[0]), let difficulty = Self.difficulty(parts[1]) else {
                throw ConfigurationError(
                    "lessons has \(String(pair).debugDescription); it must be start:difficulty pairs such as "
                        + "0:2-12,20000:2-40,95%:100: a step or a percentage, and a number or a range from 1 to 10000")
            }
            if case .step(let step) = start {
                guard step > lastStep else {
                    throw ConfigurationError("lessons has step \(step) after step \(lastStep); the steps must increase")
                }
                lastStep = step
            }
            lessons.append(Lesson(start: start, difficulty: difficulty))
        }
        guard lessons[0].start == .step(0) else {
            throw ConfigurationError("lessons begins at \(lessons[0].start); its first pair must be 0:difficulty")
        }
        self.lessons = lessons
    }

    private static func start(_ text: Substring) -> Start? {
        guard text.hasSuffix("%") else { return Int(text).flatMap { $0 >= 0 ? .step($0) : nil } }
        return Double(text.dropLast()).flatMap { (0...100).contains($0) ? .accuracy($0) : nil }
    }

    /// A number or a range from 1 to 10000; nil where the text is neither.
    public static func difficulty(_ text: Substring) -> ClosedRange<Int>? {
        let bounds = text.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
        guard (1...2).contains(bounds.count), let easiest = bounds[0], let hardest = bounds.last!,
            1 <= easiest, easiest <= hardest, hardest <= 10_000
        else { return nil }
        return easiest...hardest
    }

    public var description: String {
        lessons.map { lesson in
            let (easiest, hardest) = (lesson.difficulty.lowerBound, lesson.difficulty.upperBound)
            return "\(lesson.start):\(easiest)" + (easiest == hardest ? "" : "-\(hardest)")
        }.joined(separator: ",")
    }
}

/// Where a run is in its lessons.
struct LessonProgress: Codable, Equatable {
    /// Index of the lesson.
    var lesson = 0
    /// Steps since answers are counted, and what they have counted.
    var steps = 0
    var correct = 0
    var answers = 0

    /// Takes note of a step's answers, and goes to the next lesson where it is time.
    ///
    /// - Parameter step: optimizer steps taken, this one included.
    mutating func note(correct: Int, of answers: Int, step: Int, _ lessons: Lessons) {
        steps += 1
        self.correct += correct
        self.answers += answers
        guard lesson + 1 < lessons.lessons.count else { return clearIfDue() }
        let isTime =
            switch lessons.lessons[lesson + 1].start {
            case .step(let start): step >= start
            case .accuracy(let percent):
                steps == Lessons.counted && self.answers > 0
                    && 100 * Double(self.correct) >= percent * Double(self.answers)
            }
        if isTime { self = LessonProgress(lesson: lesson + 1) } else { clearIfDue() }
    }

    private mutating func clearIfDue() {
        if steps == Lessons.counted { self = LessonProgress(lesson: lesson) }
    }
}
