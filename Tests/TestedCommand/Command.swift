import Foundation

/// The command as built beside the tests.
package let command: URL = {
    #if os(macOS)
        let bundle = Bundle.allBundles.first { $0.bundlePath.hasSuffix(".xctest") }!
        return bundle.bundleURL.deletingLastPathComponent().appending(path: "feedback")
    #else
        return Bundle.main.bundleURL.appending(path: "feedback")
    #endif
}()
