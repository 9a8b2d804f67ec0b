import Testing

@testable import FeedbackTransformer

@Suite struct JSONTests {
    private func parse(_ text: String) throws -> JSON { try JSON(parsing: Array(text.utf8)) }

    @Test func readsWhatItWrites() throws {
        let value: JSON = [
            "whole": -3, "other": .number(2.5), "text": "a\"\\\n\u{1}é😀\u{7f}", "none": nil, "yes": true,
            "list": [1, [], [:]],
        ]
        #expect(try JSON(parsing: value.bytes) == value)
        #expect(String(decoding: value.bytes, as: UTF8.self).contains(#"a\"\\\n\u0001é😀"#))
        #expect(JSON.number(.nan).bytes == Array("null".utf8))
    }

    @Test(arguments: [
        ("0", JSON.integer(0)), ("-0.5e1", .number(-5)), ("1E2", .number(100)), (" [ ] ", JSON.array([])),
        (#""\u00e9\ud83d\ude00\/""#, "é😀/"),
        ("9223372036854775807", .integer(.max)), ("9223372036854775808", .number(0x1p63)),
    ]) func reads(text: String, value: JSON) throws { #expect(try parse(text) == value) }

    @Test(arguments: [
        "", " ", "nul", "tru", "01", "-", "1.", ".5", "1e", "1e999", "+1", "[1,]", "[1 2]", "[", "{", #"{"a"}"#,
        #"{"a":}"#,
        #"{"a":1,}"#, #"{a:1}"#, #"{"a":1,"a":2}"#, "\"", "\"\n\"", #""\x""#, #""\u12""#, #""\ud800""#,
        #""\ud800\u0041""#,
        #""\udc00""#, "1 2", "{} x", "NaN", "Infinity", "'a'", String(repeating: "[", count: 100_000),
    ]) func refuses(text: String) { #expect(throws: JSONError.self) { try parse(text) } }

    @Test func refusesWhatIsNotUTF8() {
        #expect(throws: JSONError.self) { try JSON(parsing: [0x22, 0xff, 0x22]) }
        #expect(throws: JSONError.self) { try JSON(parsing: [0xff]) }
        #expect(throws: JSONError(what: "a comma or a closing bracket is missing", position: 3)) { try parse("[1 2]") }
    }
}
