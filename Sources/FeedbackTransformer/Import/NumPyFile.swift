import Foundation

extension ForeignTensor {
    /// The array of a `.npy` file, read strictly: the magic number, a version, the length of the header, and the header, a Python
    /// dictionary of exactly descr, fortran_order and shape; then the numbers, and nothing more.
    init(numpy file: RandomAccessFile) throws {
        let start = try file.bytes(0..<min(12, file.size))
        guard start.count == 12, start.starts(with: [0x93] + Array("NUMPY".utf8)), (1...3).contains(start[6]),
            start[7] == 0
        else { throw Malformed("is no .npy file") }
        let width = start[6] == 1 ? 2 : 4
        let (begin, length) = (8 + width, start.number(at: 8, width))
        guard length <= min(1 << 16, file.size - begin) else { throw Malformed("has a header that is cut off") }
        let text = String(decoding: try file.bytes(begin..<begin + length), as: UTF8.self)
        let pattern =
            /\{'descr': '([<>|=][A-Za-z][0-9]*)', 'fortran_order': (True|False), 'shape': \(([0-9, ]{0,200})\), \} *\n/
        guard let header = text.wholeMatch(of: pattern) else { throw Malformed("has an unusable header") }
        guard let format = Self.formats[String(header.1)] else {
            throw Malformed("has numbers of the type \(header.1); it must be <f4, <f2 or <f8")
        }
        let lengths = header.3.split { ", ".contains($0) }
        let shape = lengths.compactMap { Int($0) }
        guard shape.count == lengths.count else { throw Malformed("has the impossible shape (\(header.3))") }
        var (count, strides) = (1, shape)
        for (axis, length) in shape.enumerated() {
            strides[axis] = count
            let (product, overflow) = count.multipliedReportingOverflow(by: length)
            guard !overflow else { throw Malformed("has the impossible shape \(shape)") }
            count = product
        }
        let data = file.size - begin - length
        guard shape.count <= 8, data % format.size == 0, data / format.size == count else {
            throw Malformed("has \(data) bytes of data, which do not fill its shape \(shape)")
        }
        try self.init(
            file, format, from: begin + length, numbers: count, shape: shape,
            strides: header.2 == "True" ? strides : nil)
    }

    private static let formats: [String: NumberFormat] = [
        "<f8": .float64, "<f4": .float32, "<f2": .float16, "<i8": .int64, "<i4": .int32, "<i2": .int16, "|i1": .int8,
        "|u1": .uint8, "|b1": .bool,
    ]
}
