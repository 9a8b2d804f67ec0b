import ArgumentParser
import FeedbackEngine
import FeedbackTransformer

extension DecodingPrecision: ExpressibleByArgument {}

/// Throws where a number of threads cannot be used.
func checkThreads(_ threads: Int) throws {
    guard (1...1024).contains(threads) else {
        throw ConfigurationError("threads is \(threads); it must be a whole number from 1 to 1024")
    }
}

extension Console {
    /// Says so where this CPU has no fast way to a precision.
    mutating func warnIfSlow(_ precision: DecodingPrecision) {
        if !precision.isFast {
            print("note: this CPU has no instructions for \(precision.rawValue); float32 may be faster")
        }
    }
}
