import ArgumentParser
import FeedbackTransformer
import Foundation

/// What a person watches: standard error, with one line that is written over where it is a terminal.
struct Console {
    let quiet: Bool
    private let isTerminal = isatty(STDERR_FILENO) == 1
    private var statusShown = false

    init(quiet: Bool = false) { self.quiet = quiet }

    /// A line that stays.
    mutating func print(_ line: String) {
        if !quiet { warn(line) }
    }

    /// A line that stays and that also who wants to hear nothing of progress needs.
    mutating func warn(_ line: String) {
        clearStatus()
        write(line + "\n")
    }

    /// The line that is written over. Where nothing can be, it becomes a line that stays if it is `worthKeeping`.
    mutating func status(_ line: String, worthKeeping: Bool) {
        if quiet { return }
        if isTerminal {
            // A longer line would go on in the next, and stay.
            write("\r\u{1b}[K" + line.prefix(max(20, columns - 1)))
            statusShown = true
        } else if worthKeeping {
            write(line + "\n")
        }
    }

    mutating func clearStatus() {
        if statusShown { write("\r\u{1b}[K") }
        statusShown = false
    }

    /// How wide the terminal is.
    private var columns: Int {
        var size = winsize()
        return ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0 ? Int(size.ws_col) : 80
    }

    /// Where nobody can be told any more, there is nobody to tell.
    private func write(_ text: String) { try? FileHandle.standardError.write(contentsOf: Data(text.utf8)) }
}

/// A text with its control characters as pictures, new lines and tabs left as they are: what a model writes should not steer a
/// terminal.
func visible(_ text: some StringProtocol) -> String {
    var shown = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
        switch scalar.value {
        case 0x09, 0x0a: shown.append(scalar)
        case 0..<0x20: shown.append(Unicode.Scalar(0x2400 + scalar.value)!)
        case 0x7f: shown.append("\u{2421}")
        case 0x80..<0xa0: shown.append("\u{fffd}")
        default: shown.append(scalar)
        }
    }
    return String(shown)
}

extension StringProtocol {
    /// How many columns of a terminal it takes: two for an emoji, and for a character that UAX #11 calls wide, as those of
    /// Chinese, Japanese and Korean are.
    var width: Int {
        reduce(0) { width, character in
            let scalars = character.unicodeScalars
            let isWide = scalars.contains { scalar in
                scalar.properties.isEmojiPresentation || scalar == "\u{fe0f}"
                    || Self.wide.contains { $0.contains(scalar.value) }
            }
            return width + (isWide ? 2 : 1)
        }
    }

    private static var wide: [ClosedRange<UInt32>] {
        [
            0x1100...0x115f, 0x2e80...0x303e, 0x3041...0xa4cf, 0xa960...0xa97c, 0xac00...0xd7a3, 0xf900...0xfaff,
            0xfe30...0xfe6f, 0xff01...0xff60, 0xffe0...0xffe6, 0x20000...0x3fffd,
        ]
    }
}

/// Prints a result. Throws where it cannot be written whole; a reader that has gone away ends the program quietly.
func printResult(_ text: String, terminator: String = "\n") throws {
    var bytes = Array((text + terminator).utf8)[...]
    while !bytes.isEmpty {
        let written = bytes.withUnsafeBytes { write(STDOUT_FILENO, $0.baseAddress, $0.count) }
        if written > 0 {
            bytes = bytes.dropFirst(written)
        } else if errno == EPIPE {
            throw ExitCode(128 + SIGPIPE)
        } else if errno != EINTR {
            throw FileError("cannot write to standard output: \(String(cString: strerror(errno)))")
        }
    }
}

/// Seconds as people say them: 42 s, 3:05, 1:02:03.
func duration(_ seconds: Double) -> String {
    let whole = Int(min(max(seconds, 0), 1e9).rounded())
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60)
    if hours > 0 { return String(format: "%d:%02d:%02d", hours, minutes, rest) }
    return minutes > 0 ? String(format: "%d:%02d", minutes, rest) : "\(rest) s"
}

/// A whole number with separated thousands: 1,003,854.
func grouped(_ number: Int) -> String {
    let digits = String(number)
    return digits.enumerated().map { index, digit in
        index > 0 && (digits.count - index) % 3 == 0 ? ",\(digit)" : "\(digit)"
    }.joined()
}

/// The same of a number that may be any, rounded.
func grouped(rounded number: Double) -> String { grouped(Int(exactly: number.rounded()) ?? .max) }
