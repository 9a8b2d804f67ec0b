import FeedbackTransformer
import Foundation

/// Why an input counts as a finding although it ended nothing.
struct Wrong: Error, CustomStringConvertible {
    let description: String
}

/// A refusal, and what a server says with it.
struct Refused: Error, CustomStringConvertible {
    var description = ""
}

/// Sends bytes to a server of this machine and reads what it answers, up to the end. Throws where it refuses, or has failed.
///
/// - Parameter isWhole: whether an answer is due as they are; otherwise nothing more follows them, which the server sees.
func exchange(_ bytes: [UInt8], port: UInt16, isWhole: Bool) throws {
    #if os(Linux)
        let (descriptor, flags) = (socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0), Int32(MSG_NOSIGNAL))
    #else
        let (descriptor, flags) = (socket(AF_INET, SOCK_STREAM, 0), Int32(0))
    #endif
    defer { close(descriptor) }
    // Closed at once: many thousands of connections that are being closed would leave no port free.
    var linger = linger(l_onoff: 1, l_linger: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout.size(ofValue: linger)))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    let size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isConnected = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, size) == 0 }
    }
    guard isConnected else { throw Wrong(description: "no connection: \(String(cString: strerror(errno)))") }
    var sent = 0
    while sent < bytes.count {
        let count = bytes[sent...].withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, flags) }
        // It may have refused before it has read all.
        if count <= 0 { break }
        sent += count
    }
    if !isWhole { shutdown(descriptor, Int32(SHUT_WR)) }
    var answer: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while case let count = recv(descriptor, &buffer, buffer.count, 0), count > 0 { answer += buffer[..<count] }
    let head = String(decoding: answer.prefix(12), as: UTF8.self)
    guard head.hasPrefix("HTTP/1."), let status = Int(head.suffix(3)) else {
        if isWhole { throw Wrong(description: "no answer but \(head.debugDescription)") }
        throw Refused()
    }
    // 499 is for a client that is gone.
    if status >= 500 { throw Wrong(description: "status \(status)") }
    if status >= 400 {
        let body = answer.firstRange(of: Array("\r\n\r\n".utf8)).map { Array(answer[$0.upperBound...]) } ?? []
        throw Refused(description: (try? JSON(parsing: body))?["error"]?["message"]?.text ?? "")
    }
}
