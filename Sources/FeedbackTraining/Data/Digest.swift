import Foundation

#if canImport(CryptoKit)
    import CryptoKit
#else
    import COpenSSL
#endif

/// SHA-256 of what is added to it, as the system has it: OpenSSL's, on macOS CryptoKit's.
package final class Digest {
    #if canImport(CryptoKit)
        private var context = SHA256()

        package init() {}
        package func update(_ bytes: some ContiguousBytes) {
            bytes.withUnsafeBytes { context.update(bufferPointer: $0) }
        }
        package func finalize() -> [UInt8] { Array(context.finalize()) }
    #else
        private let context = EVP_MD_CTX_new()

        package init() { precondition(EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1, "OpenSSL has no SHA-256") }
        deinit { EVP_MD_CTX_free(context) }
        package func update(_ bytes: some ContiguousBytes) {
            let added = bytes.withUnsafeBytes { EVP_DigestUpdate(context, $0.baseAddress, $0.count) }
            precondition(added == 1, "OpenSSL refuses data to digest")
        }
        /// What has been added, in 32 bytes; nothing may be added afterwards.
        package func finalize() -> [UInt8] {
            var digest = [UInt8](repeating: 0, count: 32)
            precondition(EVP_DigestFinal_ex(context, &digest, nil) == 1, "OpenSSL has no digest")
            return digest
        }
    #endif

    /// Of some data alone.
    package static func of(_ bytes: some ContiguousBytes) -> [UInt8] {
        let digest = Digest()
        digest.update(bytes)
        return digest.finalize()
    }
}

extension Sequence<UInt8> {
    /// Two digits a byte.
    package var hexadecimal: String { map { String(format: "%02x", $0) }.joined() }
}
