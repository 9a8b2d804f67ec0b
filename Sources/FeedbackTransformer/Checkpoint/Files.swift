import Foundation

/// A file or folder that could not be read or written, and why.
public struct FileError: Error, Equatable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = oneLine(description) }

    /// What the system said of the last failed call.
    package static func system(_ what: String) -> FileError {
        FileError("\(what): \(String(cString: strerror(errno)))")
    }
}

/// Where what can be had again is kept: `$XDG_CACHE_HOME/feedback`, else `~/.cache/feedback`.
package var cacheFolder: URL {
    let asked = ProcessInfo.processInfo.environment["XDG_CACHE_HOME"].flatMap {
        $0.hasPrefix("/") ? URL(filePath: $0) : nil
    }
    return (asked ?? FileManager.default.homeDirectoryForCurrentUser.appending(path: ".cache"))
        .appending(path: "feedback")
}

/// The bytes of a file, which must be an ordinary one.
///
/// - Parameter check: throws where the file is not one to read, by its first bytes, at most nine, and its length.
package func readRegularFile(
    _ file: URL, afterChecking check: (_ start: Data, _ size: Int) throws -> Void
) throws -> Data {
    let opened = try RandomAccessFile(file)
    try check(Data(try opened.bytes(0..<min(9, opened.size))), opened.size)
    return try readRegularFile(file)
}

/// The bytes of a file, which must be an ordinary one.
package func readRegularFile(_ file: URL) throws(FileError) -> Data {
    _ = try RandomAccessFile(file)
    do { return try Data(contentsOf: file) } catch { throw FileError("cannot read \(file.path): \(reason(error))") }
}

/// What comes next from standard input, at most so many bytes; none at its end.
package func readStandardInput(_ count: Int) throws(FileError) -> Data {
    do { return try FileHandle.standardInput.read(upToCount: count) ?? Data() } catch {
        throw FileError("cannot read standard input: \(reason(error))")
    }
}

/// An empty file to write, in the place of what there was.
package func createFile(_ file: URL) throws(FileError) -> FileHandle {
    let descriptor = open(file.path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw .system("cannot write \(file.path)") }
    return FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
}

/// Writes a new file and waits until it is on the disk.
package func writeFile(_ file: URL, _ write: (FileHandle) throws -> Void) throws(FileError) {
    let handle = try createFile(file)
    do {
        try write(handle)
        try handle.synchronize()
        try handle.close()
    } catch let error as FileError {
        throw error
    } catch {
        throw FileError("cannot write \(file.path): \(reason(error))")
    }
}

/// Gives a file another name on the same disk, in the place of what had that.
package func moveFile(_ file: URL, to other: URL) throws(FileError) {
    guard rename(file.path, other.path) == 0 else { throw .system("cannot write \(other.path)") }
}

/// Waits until a folder's entries are on the disk.
package func synchronizeFolder(_ folder: URL) throws(FileError) {
    let descriptor = open(folder.path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .system("cannot open \(folder.path)") }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw .system("cannot write \(folder.path)") }
}

/// Makes a folder that is there whole or not at all: `fill` writes into a temporary one beside it, which takes its place
/// only when everything is on the disk. A folder that was there before stays as it was until then.
///
/// - Parameter whenThere: called as soon as the folder has its name, for what is to be seen together with it.
package func writeFolder(
    _ folder: URL, _ fill: (URL) throws -> Void, whenThere: () throws -> Void = {}
) throws {
    let parent = folder.deletingLastPathComponent()
    do {
        try FileManager.default.createDirectory(at: parent, withIntermediateDirectories: true)
    } catch {
        throw FileError("cannot create \(parent.path): \(reason(error))")
    }
    let name = folder.lastPathComponent
    let temporary = parent.appending(path: ".\(name).new-\(getpid())")
    let replaced = parent.appending(path: ".\(name).old-\(getpid())")
    try? FileManager.default.removeItem(at: temporary)
    guard mkdir(temporary.path, 0o755) == 0 else { throw FileError.system("cannot create \(temporary.path)") }
    do {
        try fill(temporary)
        try synchronizeFolder(temporary)
        let exists = FileManager.default.fileExists(atPath: folder.path)
        if exists {
            // One that failed after the folder had its name has left it.
            try? FileManager.default.removeItem(at: replaced)
            guard rename(folder.path, replaced.path) == 0 else {
                throw FileError.system("cannot replace \(folder.path)")
            }
        }
        guard rename(temporary.path, folder.path) == 0 else {
            let error = FileError.system("cannot write \(folder.path)")
            if exists { rename(replaced.path, folder.path) }
            throw error
        }
        try whenThere()
        try synchronizeFolder(parent)
        if exists { try? FileManager.default.removeItem(at: replaced) }
    } catch {
        try? FileManager.default.removeItem(at: temporary)
        throw error
    }
}

/// An error in a few words: the system's, where one lies beneath Foundation's.
package func reason(_ error: any Error) -> String {
    let foundation = error as NSError
    // A cast to NSError alone fails where it is an error of Swift's.
    let underlying = (foundation.userInfo[NSUnderlyingErrorKey] as? any Error).map { $0 as NSError }
    if let underlying, underlying.domain == NSPOSIXErrorDomain {
        return String(cString: strerror(Int32(underlying.code)))
    }
    let isFoundations = [NSCocoaErrorDomain, NSURLErrorDomain, NSPOSIXErrorDomain].contains(foundation.domain)
    return isFoundations ? foundation.localizedDescription : "\(error)"
}
