import FeedbackTraining
import Foundation
import Testing

@testable import FeedbackRuns

@Suite struct RunExportTests {
    /// Both formats have the numbers of the history, to the last bit.
    @Test func formatsAgreeWithTheHistory() throws {
        let place = try Place()
        let recorder = try place.train("run")
        let store = try place.store()
        let (run, metrics) = (try store.run("run"), try store.metrics(recorder.id))

        let lines = try RunExport.csv.text(run, metrics).split(separator: "\n", omittingEmptySubsequences: true)
        let names = lines[0].split(separator: ",").map(String.init)
        #expect(lines.count == 13)
        for (line, step) in zip(lines.dropFirst(), metrics.steps) {
            let values = line.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
            let row = Dictionary(uniqueKeysWithValues: zip(names, values))
            #expect(values.count == names.count)
            #expect(Int(row["step"]!) == step.step && Double(row["loss"]!) == step.loss)
            #expect(Double(row["learning_rate"]!) == step.learningRate && Double(row["time"]!) == step.time)
            #expect(Double(row["seconds"]!) == step.seconds && Double(row["tokens"]!) == Double(step.tokens))
            #expect(
                Double(row["validation_loss"]!) == metrics.validations.first { $0.step == step.step }?.loss)
        }

        struct Line: Decodable { let kind: String }
        let objects = try RunExport.jsonl.text(run, metrics).split(separator: "\n").map { Data($0.utf8) }
        let decoder = JSONDecoder()
        func rows<Row: Decodable>(_ kind: String, as _: Row.Type) throws -> [Row] {
            try objects.filter { try decoder.decode(Line.self, from: $0).kind == kind }
                .map { try decoder.decode(Row.self, from: $0) }
        }
        #expect(try rows("run", as: Run.self) == [run])
        #expect(try rows("step", as: RunMetrics.Step.self) == metrics.steps)
        #expect(try rows("validation", as: RunMetrics.Validation.self) == metrics.validations)
        #expect(try rows("sample", as: RunMetrics.Sample.self) == metrics.samples)
        #expect(try rows("checkpoint", as: RunMetrics.Checkpoint.self) == metrics.checkpoints)
        #expect(metrics.steps.count + metrics.validations.count + metrics.samples.count < objects.count)
    }
}
