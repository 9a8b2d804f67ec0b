import HTTPTypes
import HummingbirdCore

/// Who may ask at all: on an address that only this machine can reach, a page of somebody else's, open in a browser here, may not,
/// neither under a name that it has pointed here nor from its own origin.
struct Doorkeeper: Sendable {
    /// The names that the server goes by; any where nil.
    private let hosts: Set<String>?
    private static let host = HTTPField.Name("Host")!
    /// Origins whose pages may ask too.
    private let origins: Set<String>

    /// - Parameters:
    ///   - localHost: the address, where only this machine can reach it.
    ///   - hosts: further names.
    ///   - origins: such as https://example.org, or * for all.
    init(localHost: String?, hosts: [String], origins: [String]) {
        self.hosts = localHost.map { host in
            Set(
                ["localhost", "127.0.0.1", "[::1]", host.contains(":") ? "[\(host)]" : host]
                    + hosts.map { $0.lowercased() })
        }
        self.origins = Set(origins)
    }

    func check(_ request: Request) throws(APIError) {
        // The first is the authority. Who reads another than the server does would be deceived.
        guard let host = request.head.authority, request.headers[Self.host] == nil else {
            throw .invalid(nil, "a request must have one Host header")
        }
        if let hosts, !hosts.contains(Self.name(host)) {
            throw APIError(
                status: .misdirectedRequest,
                message: "this server is localhost, not \(host); start it with --allow-host to go by that name too",
                code: "wrong_host")
        }
        guard let origin = request.headers[.origin], !isAllowed(origin), Self.authority(of: origin) != host else {
            return
        }
        throw APIError(
            status: .forbidden,
            message: "pages of \(origin) may not use this server; start it with --allow-origin to let them",
            code: "wrong_origin")
    }

    /// What a browser needs to give an answer to the page that asked; nothing for others.
    func headers(for request: Request) -> HTTPFields {
        guard let origin = request.headers[.origin], isAllowed(origin) else { return [:] }
        return [.accessControlAllowOrigin: origin, .vary: "Origin"]
    }

    /// The answer to a browser that asks whether it may ask.
    func preflight(_ request: Request) -> Response {
        var headers = headers(for: request)
        headers[.accessControlAllowMethods] = "GET, POST"
        headers[.accessControlAllowHeaders] = "Authorization, Content-Type"
        headers[.accessControlMaxAge] = "600"
        return Response(status: .noContent, headers: headers)
    }

    private func isAllowed(_ origin: String) -> Bool { origins.contains("*") || origins.contains(origin) }

    /// Without the port.
    private static func name(_ host: String) -> String {
        let port = host.lastIndex(of: ":").flatMap { host.hasSuffix("]") ? nil : $0 } ?? host.endIndex
        return host[..<port].lowercased()
    }

    private static func authority(of origin: String) -> String? {
        ["http://", "https://"].first { origin.hasPrefix($0) }.map { String(origin.dropFirst($0.count)) }
    }
}
