import FeedbackTraining
import FeedbackTransformer
import Foundation

/// Writes a run's metrics as a TensorBoard event file: `tensorboard --logdir DIR` shows them.
///
/// The file is a sequence of records: length (u64), its checksum, an `Event` message, its checksum. Little-endian; a
/// checksum is CRC-32C (Castagnoli), rotated right by 15 bits plus 0xa282ead8. A run that goes on writes a new file.
///
///     Event    1 wall_time: double   2 step: int64   3 file_version: string   5 summary: Summary
///              7 session_log: SessionLog
///     Summary  1 value: Value, repeated
///     Value    1 tag: string   2 simple_value: float   8 tensor: TensorProto   9 metadata: SummaryMetadata
///     SessionLog  1 status: 1 at a start, from whose step on TensorBoard forgets what it had
public final class TensorBoardWriter {
    private let file: FileHandle
    private let url: URL

    /// A new event file in a folder, which is made where it is missing, for a run that has taken so many steps. What
    /// other files there tell of later ones is no longer so.
    public init(folder: URL, after step: Int = 0) throws(FileError) {
        let information = ProcessInfo.processInfo
        let name = String(
            format: "events.out.tfevents.%.6f.%@.%d", Date().timeIntervalSince1970, information.hostName, getpid())
        url = folder.appending(path: name)
        do {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            try Data().write(to: url, options: .withoutOverwriting)
            file = try FileHandle(forWritingTo: url)
        } catch {
            throw FileError("cannot write \(url.path): \(reason(error))")
        }
        var event = Message()
        event.double(1, Date().timeIntervalSince1970)
        event.bytes(3, "brain.Event:2")
        try write(event)
        var (start, session) = (Message(), Message())
        session.integer(1, 1)
        start.double(1, Date().timeIntervalSince1970)
        start.integer(2, UInt64(step + 1))
        start.message(7, session)
        try write(start)
    }

    public func record(_ event: TrainingEvent) throws(FileError) {
        switch event {
        case .step(let step):
            try write(
                step.number,
                [
                    ("loss/training", step.loss), ("learning rate", step.learningRate),
                    ("gradient norm", step.gradientNorm ?? .nan),
                    ("tokens per second", Double(step.tokens) / step.seconds),
                ].map { scalar($0, $1) })
        case .validation(let step, let evaluation):
            try write(
                step,
                [
                    ("loss/validation", evaluation.loss), ("bits per character", evaluation.bitsPerCharacter),
                    ("accuracy", evaluation.accuracy),
                ].map { scalar($0, $1) })
        case .sample(let step, let sample): try write(step, [text("sample", sample)])
        case .checkpoint, .warning: break
        }
    }

    // MARK: Messages

    private func scalar(_ tag: String, _ number: Double) -> Message {
        var value = Message()
        value.bytes(1, tag)
        value.float(2, Float(number))
        return value
    }

    /// A string tensor of one element, for the text plugin.
    private func text(_ tag: String, _ text: String) -> Message {
        var (dimension, shape, tensor) = (Message(), Message(), Message())
        dimension.integer(1, 1)
        shape.message(2, dimension)
        tensor.integer(1, 7)
        tensor.message(2, shape)
        tensor.bytes(8, text)
        var (plugin, metadata, value) = (Message(), Message(), Message())
        plugin.bytes(1, "text")
        metadata.message(1, plugin)
        value.bytes(1, tag)
        value.message(8, tensor)
        value.message(9, metadata)
        return value
    }

    private func write(_ step: Int, _ values: [Message]) throws(FileError) {
        var (summary, event) = (Message(), Message())
        for value in values { summary.message(1, value) }
        event.double(1, Date().timeIntervalSince1970)
        event.integer(2, UInt64(step))
        event.message(5, summary)
        try write(event)
    }

    private func write(_ event: Message) throws(FileError) {
        func littleEndian(_ value: some FixedWidthInteger) -> Data {
            withUnsafeBytes(of: value.littleEndian) { Data($0) }
        }
        let length = littleEndian(UInt64(event.data.count))
        let record =
            length + littleEndian(maskedChecksum(length)) + event.data + littleEndian(maskedChecksum(event.data))
        do { try file.write(contentsOf: record) } catch {
            throw FileError("cannot write \(url.path): \(reason(error))")
        }
    }
}

/// A Protocol Buffers message as it is written: a field is its number and kind, then its value.
private struct Message {
    var data = Data()

    mutating func integer(_ field: UInt64, _ value: UInt64) {
        varint(field << 3)
        varint(value)
    }
    mutating func double(_ field: UInt64, _ value: Double) {
        varint(field << 3 | 1)
        withUnsafeBytes(of: value.bitPattern.littleEndian) { data.append(contentsOf: $0) }
    }
    mutating func float(_ field: UInt64, _ value: Float) {
        varint(field << 3 | 5)
        withUnsafeBytes(of: value.bitPattern.littleEndian) { data.append(contentsOf: $0) }
    }
    mutating func bytes(_ field: UInt64, _ text: String) { bytes(field, Data(text.utf8)) }
    mutating func message(_ field: UInt64, _ message: Message) { bytes(field, message.data) }

    private mutating func bytes(_ field: UInt64, _ bytes: Data) {
        varint(field << 3 | 2)
        varint(UInt64(bytes.count))
        data.append(bytes)
    }

    private mutating func varint(_ value: UInt64) {
        var value = value
        while value >= 0x80 {
            data.append(UInt8(truncatingIfNeeded: value) | 0x80)
            value >>= 7
        }
        data.append(UInt8(value))
    }
}

func maskedChecksum(_ data: Data) -> UInt32 {
    var crc: UInt32 = ~0
    for byte in data { crc = checksums[Int((crc ^ UInt32(byte)) & 0xff)] ^ crc >> 8 }
    crc = ~crc
    return (crc >> 15 | crc << 17) &+ 0xa282_ead8
}

/// CRC-32C of every byte: polynomial 0x1edc6f41, reflected.
private let checksums: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { crc, _ in crc & 1 == 1 ? crc >> 1 ^ 0x82f6_3b78 : crc >> 1 }
}
