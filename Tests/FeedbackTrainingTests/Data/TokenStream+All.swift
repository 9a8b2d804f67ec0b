import FeedbackTraining

extension TokenStream {
    /// All that there is to read.
    var inputs: [Int32] { get throws { Array(try self(0..<count).inputs) } }
    /// All that there is to predict.
    var targets: [Int32] { get throws { Array(try self(0..<count).targets) } }
}
