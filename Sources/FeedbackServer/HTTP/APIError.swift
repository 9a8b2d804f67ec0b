import FeedbackTransformer
import HTTPTypes
import HummingbirdCore
import NIOCore

/// What a client is told where a request cannot be answered, in the shape of OpenAI's errors.
struct APIError: Error {
    var status: HTTPResponse.Status
    var message: String
    /// The parameter that is wrong.
    var parameter: String?
    var code: String?
    var headers = HTTPFields()

    /// A request with a parameter that cannot be used.
    static func invalid(_ parameter: String?, _ message: String) -> APIError {
        APIError(status: .badRequest, message: message, parameter: parameter)
    }
    static func noPage(_ path: String) -> APIError {
        APIError(status: .notFound, message: "there is nothing at \(path)", code: "unknown_url")
    }
    static func tooLarge(_ limit: Int) -> APIError {
        APIError(status: .contentTooLarge, message: "the body has more than \(limit) bytes, the most allowed")
    }
    static func tooSlow(_ limit: TimeAmount) -> APIError {
        APIError(
            status: .requestTimeout,
            message: "the body has not arrived whole within \(limit.nanoseconds / 1_000_000_000) seconds")
    }
    static let stopping = APIError(
        status: .serviceUnavailable, message: "the server is shutting down", code: "shutting_down",
        headers: [.retryAfter: "10"])

    private var type: String {
        switch status.code {
        case 503: "overloaded_error"
        case 500...: "server_error"
        default: "invalid_request_error"
        }
    }

    var json: JSON {
        [
            "error": [
                "message": .string(oneLine(message)), "type": .string(type), "param": JSON(parameter.map(oneLine)),
                "code": JSON(code),
            ]
        ]
    }

    var response: Response { Response(status: status, json: json, headers: headers) }
}

extension Response {
    init(status: HTTPResponse.Status = .ok, json: JSON, headers: HTTPFields = HTTPFields()) {
        self.init(status: status, type: "application/json", json.bytes, headers: headers)
    }

    init(
        status: HTTPResponse.Status = .ok, type: String, _ bytes: [UInt8], headers: HTTPFields = HTTPFields()
    ) {
        var headers = headers
        headers[.contentType] = type
        headers[.xContentTypeOptions] = "nosniff"
        self.init(status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
    }
}
