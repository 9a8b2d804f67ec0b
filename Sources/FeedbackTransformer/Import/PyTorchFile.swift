import Foundation

// PyTorch's files of tensors, as torch.save writes them:
//
//   zip      NAME/data.pkl, a pickle; NAME/data/KEY, the numbers of one storage; NAME/byteorder
//   older    five pickles: a magic number, a version, the machine, the objects, the storages' keys; then of each storage in the
//            order of the keys its length and its numbers
//
// In the pickle a tensor is _rebuild_tensor_v2(storage, offset, shape, strides, …), a storage a reference to
// ("storage", type, key, device, length): several tensors may be views of one.

/// What a checkpoint has of tensors, by name, and how many bytes it has altogether.
struct ForeignTensors {
    var tensors: [String: ForeignTensor] = [:]
    var bytes = 0
}

extension ForeignTensors {
    /// The tensors of a dictionary in a file of PyTorch's: of the one that has a tensor whose name ends so.
    init(pytorch file: RandomAccessFile, holding name: String) throws {
        let objects: PyTorchObjects
        if try file.bytes(0..<min(2, file.size)) == Array("PK".utf8) {
            objects = try PyTorchObjects(zip: file)
        } else {
            objects = try PyTorchObjects(older: file)
        }
        bytes = file.size
        var seen: Set<Int> = []
        guard let found = try objects.dictionary(holding: name, in: objects.pickle.root, &seen) else {
            let keys = objects.pickle.members(objects.pickle.root)?.map(\.key) ?? []
            throw Malformed(
                "it has no dictionary with a tensor \(name)"
                    + (keys.isEmpty ? "" : "; it has " + keys.joined(separator: ", ")))
        }
        tensors = found
    }
}

/// A file's objects, and where its storages are.
private struct PyTorchObjects {
    let pickle: Pickle
    private let file: RandomAccessFile
    /// By key: the first byte, and how many bytes there are.
    private var storages: [String: (start: Int, size: Int)] = [:]

    // MARK: Two kinds of files

    init(zip file: RandomAccessFile) throws {
        self.file = file
        let entries = try ZipArchive(file).entries
        let names = entries.keys.filter { $0.hasSuffix("/data.pkl") && $0.split(separator: "/").count == 2 }
        guard names.count == 1, let name = names.first, let program = entries[name] else {
            throw Malformed("it is a zip, but none of torch.save: it must have one data.pkl")
        }
        let folder = name.dropLast("data.pkl".count)
        if let order = entries["\(folder)byteorder"] {
            guard order.count == 6, try file.bytes(order) == Array("little".utf8) else {
                throw Malformed("it has big-endian numbers; save it on a little-endian machine")
            }
        }
        guard program.count <= Pickle.limit else { throw Malformed("its pickle is too long") }
        pickle = try Pickle(try file.bytes(program))
        guard pickle.end == program.count else { throw Malformed("something follows its pickle") }
        for (name, range) in entries where name.hasPrefix("\(folder)data/") {
            storages[String(name.dropFirst(folder.count + 5))] = (range.lowerBound, range.count)
        }
    }

    /// 0x1950a86a20f9469cfc6c as a pickle of protocol 2.
    private static let magic: [UInt8] = [
        0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e,
    ]

    init(older file: RandomAccessFile) throws {
        self.file = file
        let bytes = try file.bytes(0..<min(Pickle.limit, file.size))
        guard bytes.starts(with: Self.magic) else { throw Malformed("it is no file of torch.save") }
        let version = try Pickle(bytes, from: Self.magic.count)
        guard case .integer(1001) = version.root else { throw Malformed("it has an unknown version") }
        let machine = try Pickle(bytes, from: version.end)
        guard case .bool(true) = machine.members(machine.root)?.first(where: { $0.key == "little_endian" })?.value
        else { throw Malformed("it has big-endian numbers; save it on a little-endian machine") }
        pickle = try Pickle(bytes, from: machine.end)
        let keys = try Pickle(bytes, from: pickle.end)
        guard let list = keys.elements(keys.root, .list) else { throw Malformed("it lacks the list of its storages") }
        var sizes: [String: Int] = [:]
        for object in pickle.objects where object.kind == .reference {
            let (format, key, count): (NumberFormat, String, Int)
            do { (format, key, count) = try reference(object.elements) } catch { throw Malformed("it \(error.what)") }
            guard sizes.updateValue(format.size, forKey: key) ?? format.size == format.size, count >= 0 else {
                throw Malformed("its storage \(key) has two types")
            }
        }
        var at = keys.end
        for value in list {
            guard case .text(let key) = value, let width = sizes[key], storages[key] == nil, file.size - at >= 8 else {
                throw Malformed("it is cut off, or its list of storages is damaged")
            }
            let (size, overflow) = try file.bytes(at..<at + 8).number(at: 0, 8).multipliedReportingOverflow(by: width)
            guard !overflow, size <= file.size - at - 8 else { throw Malformed("its storage \(key) is cut off") }
            storages[key] = (at + 8, size)
            at += 8 + size
        }
        guard at == file.size else { throw Malformed("something follows its storages") }
    }

    // MARK: Tensors

    /// Dictionaries of a checkpoint in which a model's usually is.
    private static let usual = ["model", "state_dict", "model_state_dict", "module"]

    /// - Parameter seen: the objects that have been looked at, at most a few.
    func dictionary(
        holding name: String, in value: Pickle.Value, _ seen: inout Set<Int>
    ) throws -> [String: ForeignTensor]? {
        guard case .object(let number) = value, seen.count < 16, seen.insert(number).inserted,
            let members = pickle.members(value)
        else { return nil }
        if members.contains(where: { $0.key.hasSuffix(name) && arguments(of: $0.value) != nil }) {
            var tensors: [String: ForeignTensor] = [:]
            for member in members {
                guard let arguments = arguments(of: member.value) else { continue }
                let tensor: ForeignTensor
                do { tensor = try self.tensor(arguments) } catch {
                    throw Malformed("the tensor \(member.key) \(error.what)")
                }
                guard tensors.updateValue(tensor, forKey: member.key) == nil else {
                    throw Malformed("the tensor \(member.key) is there twice")
                }
            }
            return tensors
        }
        for key in Self.usual {
            if let member = members.last(where: { $0.key == key }),
                let found = try dictionary(holding: name, in: member.value, &seen)
            {
                return found
            }
        }
        return nil
    }

    /// What a tensor is to be made of; nil where the value is none.
    private func arguments(of value: Pickle.Value) -> [Pickle.Value]? {
        let data = pickle.elements(value, .call(.parameter))?.first ?? value
        return pickle.elements(data, .call(.tensor))
    }

    private func tensor(_ arguments: [Pickle.Value]) throws(Malformed) -> ForeignTensor {
        let damaged = Malformed("is damaged")
        guard arguments.count >= 4, let reference = pickle.elements(arguments[0], .reference),
            case .integer(let offset) = arguments[1], let shape = integers(arguments[2]),
            let strides = integers(arguments[3]), shape.count <= 8
        else { throw damaged }
        let (format, key, numbers) = try self.reference(reference)
        guard let storage = storages[key] else { throw Malformed("lacks its storage \(key)") }
        // Files of before 2017 have storages that are parts of others: key, offset and length.
        var (part, count) = (0, numbers)
        if reference.count == 6, let view = pickle.elements(reference[5], .tuple) {
            guard view.count == 3, case .integer(let begin) = view[1], case .integer(let length) = view[2],
                begin >= 0, length >= 0, begin <= numbers, length <= numbers - begin
            else { throw damaged }
            (part, count) = (begin, length)
        }
        let (size, overflow) = numbers.multipliedReportingOverflow(by: format.size)
        guard !overflow, size == storage.size else { throw Malformed("has a storage of another length") }
        return try ForeignTensor(
            file, format, from: storage.start + part * format.size, numbers: count, offset: offset, shape: shape,
            strides: strides)
    }

    private func reference(_ elements: [Pickle.Value]) throws(Malformed) -> (NumberFormat, key: String, count: Int) {
        guard (5...6).contains(elements.count), case .text("storage") = elements[0], case .name(let name) = elements[1],
            let format = Self.formats[name], case .text(let key) = elements[2], case .integer(let count) = elements[4]
        else { throw Malformed("has a damaged storage") }
        return (format, key, count)
    }

    private func integers(_ value: Pickle.Value) -> [Int]? {
        guard let elements = pickle.elements(value, .tuple) else { return nil }
        let integers = elements.compactMap { if case .integer(let integer) = $0 { integer } else { nil } }
        return integers.count == elements.count ? integers : nil
    }

    private static let formats: [Pickle.Name: NumberFormat] = [
        .float64: .float64, .float32: .float32, .float16: .float16, .bfloat16: .bfloat16, .int64: .int64,
        .int32: .int32, .int16: .int16, .int8: .int8, .uint8: .uint8, .bool: .bool,
    ]
}
