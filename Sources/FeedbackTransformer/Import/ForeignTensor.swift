/// What is wrong with a file from elsewhere, in a few words.
struct Malformed: Error {
    let what: String
    init(_ what: String) { self.what = what }
}

/// Numbers as a file has them, little-endian.
enum NumberFormat: String {
    case float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8, bool

    /// In bytes.
    var size: Int {
        switch self {
        case .float64, .int64: 8
        case .float32, .int32: 4
        case .float16, .bfloat16, .int16: 2
        case .int8, .uint8, .bool: 1
        }
    }

    /// The numbers in float32: exact, but for those of float64, which are rounded.
    fileprivate func floats(_ bytes: [UInt8]) throws(Malformed) -> [Float] {
        func each(_ value: (UInt64) -> Float) -> [Float] {
            stride(from: 0, to: bytes.count, by: size).map { start in
                var bits: UInt64 = 0
                for index in 0..<size { bits |= UInt64(bytes[start + index]) << UInt64(8 * index) }
                return value(bits)
            }
        }
        switch self {
        case .float64: return each { Float(Double(bitPattern: $0)) }
        case .float32: return each { Float(bitPattern: UInt32($0)) }
        case .float16: return each { Float(half: UInt32($0)) }
        case .bfloat16: return each { Float(bitPattern: UInt32($0) << 16) }
        case .int64, .int32, .int16, .int8, .uint8, .bool:
            throw Malformed("has numbers of the type \(rawValue); it must be float32, float16 or bfloat16")
        }
    }
}

extension Float {
    /// A number of IEEE 754's binary16: a sign, five bits of exponent, ten of fraction.
    init(half bits: UInt32) {
        let (exponent, fraction) = (bits >> 10 & 31, bits & 1023)
        let magnitude: Float =
            switch exponent {
            case 0: Float(fraction) * 0x1p-24
            case 31: Float(bitPattern: 0xff << 23 | fraction << 13)
            default: Float(bitPattern: (exponent + 112) << 23 | fraction << 13)
            }
        self = bits >> 15 == 0 ? magnitude : -magnitude
    }
}

/// A tensor in a file, whose numbers are read when they are asked for.
struct ForeignTensor {
    let shape: [Int]
    let format: NumberFormat
    /// How many numbers there are in the file from its first to its last: as many as it has, or more where others lie between.
    let span: Int
    private let file: RandomAccessFile
    /// In bytes.
    private let start: Int
    private let strides: [Int]
    private let count: Int

    /// - Parameters:
    ///   - numbers: how many there are from `start` on, checked against the file's size.
    ///   - offset: the number that is the tensor's first.
    ///   - strides: how far apart neighbours along an axis are; row-major where nil.
    init(
        _ file: RandomAccessFile, _ format: NumberFormat, from start: Int, numbers: Int, offset: Int = 0, shape: [Int],
        strides: [Int]? = nil
    ) throws(Malformed) {
        var (count, dense) = (1, shape)
        for axis in shape.indices.reversed() {
            dense[axis] = count
            let (product, overflow) = count.multipliedReportingOverflow(by: shape[axis])
            guard shape[axis] >= 0, !overflow else { throw Malformed("has the impossible shape \(shape)") }
            count = product
        }
        let strides = strides ?? dense
        guard strides.count == shape.count, offset >= 0, strides.allSatisfy({ $0 >= 0 }) else {
            throw Malformed("has the impossible strides \(strides)")
        }
        var last = offset
        for (length, stride) in zip(shape, strides) where count > 0 {
            let (way, isFar) = (length - 1).multipliedReportingOverflow(by: stride)
            let (sum, isFarther) = last.addingReportingOverflow(way)
            guard !isFar, !isFarther else { throw Malformed("reaches beyond its storage") }
            last = sum
        }
        span = count == 0 ? 0 : last - offset + 1
        guard count == 0 || last < numbers else { throw Malformed("reaches beyond its storage") }
        guard count <= span else { throw Malformed("repeats its numbers: it is an expanded view") }
        (self.file, self.format, self.shape, self.strides, self.count) = (file, format, shape, strides, count)
        self.start = start + offset * format.size
    }

    /// The numbers, row-major.
    func floats() throws -> [Float] {
        let numbers = try format.floats(try file.bytes(start..<start + span * format.size))
        var index = shape.map { _ in 0 }
        var place = 0
        return (0..<count).map { _ in
            let number = numbers[place]
            for axis in shape.indices.reversed() {
                index[axis] += 1
                place += strides[axis]
                if index[axis] < shape[axis] { break }
                place -= index[axis] * strides[axis]
                index[axis] = 0
            }
            return number
        }
    }
}
