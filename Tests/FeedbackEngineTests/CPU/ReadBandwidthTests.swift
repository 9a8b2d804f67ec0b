import FeedbackEngine
import Testing

@Suite struct ReadBandwidthTests {
    /// A rate that a processor can have: more would mean that nothing was read.
    @Test(arguments: [1, 2]) func readsAtAPossibleRate(threads: Int) {
        let stream = ReadBandwidth(bytes: 30_000, threads: threads)
        #expect(stream.bytes >= 30_000 && stream.bytes < 32_000)
        let rate = stream.bytesPerSecond()
        #expect(rate > 1e6 && rate < 1e13)
    }
}
