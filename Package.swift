// swift-tools-version: 6.2
import PackageDescription

// CI builds with warnings as errors; a package that depends on this one never does.
let strict: [SwiftSetting] = Context.environment["CI"] == nil ? [] : [.treatAllWarnings(as: .error)]

let package = Package(
    name: "swift-feedback-transformer",
    platforms: [.macOS(.v15)],
    products: [
        .library(name: "FeedbackTransformer", targets: ["FeedbackTransformer"]),
        .library(name: "FeedbackEngine", targets: ["FeedbackEngine"]),
        .library(name: "FeedbackTraining", targets: ["FeedbackTraining"]),
        .library(name: "FeedbackRuns", targets: ["FeedbackRuns"]),
        .executable(name: "feedback", targets: ["feedback"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
        .package(url: "https://github.com/apple/swift-crypto", "3.12.3"..<"5.0.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.6.0"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.0.0"),
    ],
    targets: [
        .target(name: "COneDNN", linkerSettings: [.linkedLibrary("dnnl")]),
        .target(name: "CKernels"),
        .target(name: "FeedbackEngine", dependencies: ["COneDNN", "CKernels"], swiftSettings: strict),
        .target(name: "FeedbackTransformer", dependencies: ["FeedbackEngine"], swiftSettings: strict),
        .target(
            name: "FeedbackTraining",
            dependencies: [
                "FeedbackTransformer",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Yams", package: "Yams"),
            ], swiftSettings: strict),
        .target(
            name: "FeedbackRuns",
            dependencies: ["FeedbackTraining", .product(name: "GRDB", package: "GRDB.swift")], swiftSettings: strict),
        .executableTarget(
            name: "feedback",
            dependencies: [
                "FeedbackRuns",
                "FeedbackTraining",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: strict),
        .testTarget(name: "FeedbackEngineTests", dependencies: ["FeedbackEngine", "FeedbackTransformer"]),
        .testTarget(name: "FeedbackTransformerTests", dependencies: ["FeedbackTransformer"]),
        .testTarget(name: "FeedbackTrainingTests", dependencies: ["FeedbackTraining"], resources: [.copy("Fixtures")]),
        .testTarget(name: "FeedbackRunsTests", dependencies: ["FeedbackRuns"]),
        .testTarget(name: "feedbackTests", dependencies: ["feedback", "FeedbackTraining"]),
    ]
)
