import Testing

@testable import FeedbackTraining

@Suite struct ScheduleTests {
    @Test func cosine() {
        let schedule = Schedule.cosine(peak: 1, minimum: 0.1, warmup: 10, total: 110)
        #expect(schedule.learningRate(step: 1) == 0.1)
        #expect(schedule.learningRate(step: 10) == 1)
        #expect(abs(schedule.learningRate(step: 60) - 0.55) < 1e-12)
        #expect(abs(schedule.learningRate(step: 110) - 0.1) < 1e-12)
        #expect(schedule.learningRate(step: 500) == 0.1)
        for step in 11..<110 { #expect(schedule.learningRate(step: step + 1) < schedule.learningRate(step: step)) }
    }

    @Test func cosineWithoutWarmup() {
        let schedule = Schedule.cosine(peak: 1, minimum: 0, warmup: 0, total: 1)
        #expect(schedule.learningRate(step: 1) == 0)
        #expect(Schedule.cosine(peak: 1, minimum: 0, warmup: 5, total: 3).learningRate(step: 3) == 0.6)
    }

    /// The peak at D 512 and 2000 steps of warm-up is 9.88e-4.
    @Test func noam() {
        let schedule = Schedule.noam(factor: 1, dModel: 512, warmup: 2000)
        #expect(abs(schedule.learningRate(step: 2000) - 9.88e-4) < 1e-6)
        #expect(abs(schedule.learningRate(step: 1000) - 4.94e-4) < 1e-6)
        #expect(abs(schedule.learningRate(step: 8000) - 4.94e-4) < 1e-6)
    }

    @Test func clipping() {
        #expect(clipScale(norm: 2, limit: 1) == 1 / (2 + 1e-6))
        #expect(clipScale(norm: 0.5, limit: 1) == 1)
        #expect(clipScale(norm: 5, limit: 0) == 1)
    }
}
