import FeedbackTraining
import Foundation
import Testing

@testable import FeedbackRuns

@Suite struct TensorBoardTests {
    /// The check value of CRC-32C is that of RFC 3720's family: "123456789" gives e3069283.
    @Test func checksum() {
        let crc = (0xe306_9283 as UInt32)
        #expect(maskedChecksum(Data("123456789".utf8)) == (crc >> 15 | crc << 17) &+ 0xa282_ead8)
    }

    /// The file is whole records; every number of the run is among them.
    @Test func writesRecords() throws {
        let place = try Place()
        let folder = place.url.appending(path: "board")
        let writer = try TensorBoardWriter(folder: folder, after: 4)
        var events: [TrainingEvent] = []
        _ = try place.train("run") { events.append($0) }
        for event in events { try writer.record(event) }
        let name = try #require(try FileManager.default.contentsOfDirectory(atPath: folder.path).first)
        #expect(name.hasPrefix("events.out.tfevents."))
        var data = [UInt8](try Data(contentsOf: folder.appending(path: name)))[...]
        func number<Value: FixedWidthInteger>(_: Value.Type) -> Value {
            defer { data = data.dropFirst(MemoryLayout<Value>.size) }
            return data.prefix(MemoryLayout<Value>.size).reversed().reduce(0) { $0 << 8 | Value($1) }
        }
        var records: [Data] = []
        while !data.isEmpty {
            let head = Data(data.prefix(8))
            let length = Int(number(UInt64.self))
            #expect(number(UInt32.self) == maskedChecksum(head))
            records.append(Data(data.prefix(length)))
            data = data.dropFirst(length)
            #expect(number(UInt32.self) == maskedChecksum(records.last!))
        }
        #expect(records[0].range(of: Data("brain.Event:2".utf8)) != nil)
        // The start of a session at step 5, from which on earlier files no longer count: fields 2 and 7.
        #expect(records[1].suffix(6) == Data([0x10, 5, 0x3a, 2, 0x08, 1]))
        var written = 0
        for event in events {
            let bytes: Data
            switch event {
            case .step(let step): bytes = withUnsafeBytes(of: Float(step.loss)) { Data($0) }
            case .validation(_, let evaluation): bytes = withUnsafeBytes(of: Float(evaluation.loss)) { Data($0) }
            case .sample(_, let text): bytes = Data(text.utf8)
            case .checkpoint, .warning: continue
            }
            written += 1
            #expect(records[written + 1].range(of: bytes) != nil)
        }
        #expect(records.count == written + 2)
    }
}
