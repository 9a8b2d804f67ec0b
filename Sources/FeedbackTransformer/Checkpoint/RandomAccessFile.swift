import Foundation

/// A file that is read a piece at a time, from anywhere in it, by any thread.
///
/// It is read and not mapped: a mapped page counts as the process's own memory, and one that is gone, because the file has been cut
/// short, ends the process.
package final class RandomAccessFile: Sendable {
    package let path: String
    /// In bytes.
    package let size: Int
    private let descriptor: Int32

    package init(_ file: URL) throws(FileError) {
        path = file.path
        // A pipe would wait for who writes into it.
        descriptor = open(file.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        var status = stat()
        guard descriptor >= 0, fstat(descriptor, &status) == 0 else { throw .system("cannot read \(file.path)") }
        size = Int(status.st_size)
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw FileError("cannot read \(file.path): it is not a file")
        }
        // What cannot be read may have no size either.
        var byte: UInt8 = 0
        guard pread(descriptor, &byte, 1, 0) >= 0 else { throw .system("cannot read \(file.path)") }
    }

    deinit { close(descriptor) }

    /// The bytes of a range. Throws where the file has been cut short.
    package func bytes(_ range: Range<Int>) throws(FileError) -> [UInt8] {
        var failure: FileError?
        let bytes = [UInt8](unsafeUninitializedCapacity: range.count) { buffer, count in
            while count < range.count {
                let read = pread(
                    descriptor, buffer.baseAddress! + count, range.count - count, off_t(range.lowerBound + count))
                if read > 0 {
                    count += read
                } else if read == 0 || errno != EINTR {
                    failure = read == 0 ? FileError("\(path) has been cut short") : .system("cannot read \(path)")
                    return
                }
            }
        }
        if let failure { throw failure }
        return bytes
    }
}
