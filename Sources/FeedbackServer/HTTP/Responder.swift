import FeedbackTraining
import FeedbackTransformer
import Foundation
import HTTPTypes
import HummingbirdCore
import NIOCore
import NIOHTTP1

/// Finds what a request asks for.
final class Responder: Sendable {
    private let models: [ServedModel]
    private let dashboard: Dashboard?
    private let limits: CompletionLimits
    /// Of the API key. Keys are compared by their digests: how long that takes tells nothing of where one is wrong.
    private let keyDigest: [UInt8]?
    private let doorkeeper: Doorkeeper
    private let counters = RequestCounters()

    init(
        models: [ServedModel], dashboard: Dashboard?, limits: CompletionLimits, apiKey: String?,
        doorkeeper: Doorkeeper
    ) {
        self.models = models
        self.dashboard = dashboard
        self.limits = limits
        keyDigest = apiKey.map { Digest.of(Array($0.utf8)) }
        self.doorkeeper = doorkeeper
    }

    /// Takes no new requests.
    func drain() {
        for model in models { model.loop.drain() }
        dashboard?.stop()
    }

    /// Ends requests under way.
    func stop() { for model in models { model.loop.stop() } }

    func respond(to request: Request, _ connection: Connection) async throws -> Response {
        var response: Response
        do {
            response = try await answer(request, connection)
        } catch let error as APIError {
            response = error.response
        } catch let error as HTTPParserError {
            // The connection answers what is no HTTP, and closes.
            counters.count(request.uri.path, 400)
            throw error
        } catch is CancellationError {
            // Hardly anybody is there to be told.
            response =
                APIError(
                    status: .init(code: 499, reasonPhrase: "Client Closed Request"),
                    message: "the client has closed the connection, or its sending side, before the answer was there"
                ).response
        } catch {
            response = APIError(status: .internalServerError, message: reason(error)).response
        }
        counters.count(request.uri.path, response.status.code)
        for field in doorkeeper.headers(for: request) { response.headers[field.name] = field.value }
        return request.method == .head ? response.createHeadResponse() : response
    }

    private func answer(_ request: Request, _ connection: Connection) async throws -> Response {
        let path = request.uri.path
        try doorkeeper.check(request)
        if let coding = request.headers[.transferEncoding], coding.lowercased() != "chunked" {
            // Where the last is not chunked, nobody can tell where the body ends.
            throw APIError(
                status: coding.lowercased().hasSuffix("chunked") ? .notImplemented : .badRequest,
                message: "the transfer encoding \(coding) is not known here; send the body as it is, or chunked")
        }
        if request.method == .options, request.headers[.origin] != nil { return doorkeeper.preflight(request) }
        let parts = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
            .map { $0.removingPercentEncoding ?? String($0) }
        switch parts.first {
        case "v1":
            try checkKey(request)
            switch parts.count {
            case 2 where parts[1] == "completions":
                try allow([.post], request)
                return try await complete(request, connection)
            case 2 where parts[1] == "models":
                try allow([.get], request)
                return Response(json: ["object": "list", "data": .array(models.map(\.json))])
            case 3 where parts[1] == "models":
                try allow([.get], request)
                return Response(json: try model(parts[2]).json)
            case 3... where parts[1] == "chat":
                throw APIError(
                    status: .notFound,
                    message: "these models continue texts and know no chat: use /v1/completions with a prompt; "
                        + "/v1/models lists them", code: "unknown_url")
            default: throw APIError.noPage(path)
            }
        case "health" where parts.count == 1:
            try allow([.get], request)
            return Response(json: ["status": "ok"])
        case "metrics" where parts.count == 1:
            try allow([.get], request)
            return Response(
                type: "text/plain; version=0.0.4",
                Array((counters.text + prometheus(models.map { ($0.id, $0.loop.metrics) })).utf8))
        default:
            guard let dashboard else { throw APIError.noPage(path) }
            return try await dashboard.answer(request, parts, connection)
        }
    }

    private func model(_ id: String) throws(APIError) -> ServedModel {
        guard let model = models.first(where: { $0.id == id }) else {
            throw APIError(
                status: .notFound, message: "there is no model \(id); GET /v1/models lists those there are",
                parameter: "model", code: "model_not_found")
        }
        return model
    }

    private func complete(_ request: Request, _ connection: Connection) async throws -> Response {
        let body = try await request.json(upTo: limits.bodyBytes)
        let asked = try CompletionRequest(body, limits: limits)
        let completion = try Completion(asked, try model(asked.model))
        connection.whenClosed { completion.cancel() }
        return asked.stream ? completion.streamed() : try await completion.whole()
    }

    // MARK: Checks

    private func checkKey(_ request: Request) throws(APIError) {
        guard let keyDigest else { return }
        let given = request.headers[.authorization] ?? ""
        guard given.lowercased().hasPrefix("bearer "),
            Digest.of(Array(given.dropFirst(7).utf8)) == keyDigest
        else {
            throw APIError(
                status: .unauthorized, message: "a valid API key is needed: Authorization: Bearer KEY",
                code: "invalid_api_key", headers: [.wwwAuthenticate: "Bearer"])
        }
    }
}

/// Throws where a path does not have the request's method; what can be got has a head too.
func allow(_ methods: [HTTPRequest.Method], _ request: Request) throws(APIError) {
    let all = methods.contains(.get) ? methods + [.head] : methods
    if all.contains(request.method) { return }
    let names = all.map(\.rawValue).joined(separator: ", ")
    throw APIError(
        status: .methodNotAllowed, message: "\(request.uri.path) takes \(names), not \(request.method.rawValue)",
        code: "method_not_allowed", headers: [.allow: names])
}

extension Request {
    /// The body as JSON. Throws where it is too large, or is none.
    func json(upTo limit: Int) async throws -> JSON {
        if let length = headers[.contentLength].flatMap(Int.init), length > limit { throw APIError.tooLarge(limit) }
        let buffer: ByteBuffer
        do {
            buffer = try await body.collect(upTo: limit)
        } catch is NIOTooManyBytesError {
            throw APIError.tooLarge(limit)
        }
        do {
            return try JSON(parsing: Array(buffer.readableBytesView))
        } catch {
            throw APIError.invalid(nil, "the body is not JSON: \(error)")
        }
    }
}
