// swift-tools-version: 6.2
import PackageDescription

// CI builds with warnings as errors; a package that depends on this one never does.
let strict: [SwiftSetting] = Context.environment["CI"] == nil ? [] : [.treatAllWarnings(as: .error)]

// Every file of the dashboard's page lies in the binary: it needs no folder beside it.
let page = [
    "app.js", "attention.js", "chart.js", "compare.js", "curves.js", "dashboard.css",
    "dom.js", "format.js", "heatmap.js", "icon.svg", "index.html", "pointing.js",
    "run.js", "runs.js", "samples.js", "scale.js", "series.js", "server.js",
    "settings.js", "view.js", "watch.js", "weights.js",
]

// The source of the devices' kernels, which their drivers compile.
let kernels = ["Phase", "Prelude", "Attention", "Product", "Pass", "Gradients", "Weights"]

let mpi = TargetDependencyCondition.when(traits: ["MPI"])

let package = Package(
    name: "swift-feedback-transformer",
    platforms: [.macOS(.v15)],
    products: [
        .library(name: "FeedbackTransformer", targets: ["FeedbackTransformer"]),
        .library(name: "FeedbackEngine", targets: ["FeedbackEngine"]),
        .library(name: "FeedbackDevice", targets: ["FeedbackDevice"]),
        .library(name: "FeedbackTraining", targets: ["FeedbackTraining"]),
        .library(name: "FeedbackRuns", targets: ["FeedbackRuns"]),
        .library(name: "FeedbackServer", targets: ["FeedbackServer"]),
        .executable(name: "feedback", targets: ["feedback"]),
    ],
    traits: [.trait(name: "MPI", description: "Training over ranks, on one machine or several: see `make mpi`")],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.0.0"),
    ],
    targets: [
        .target(name: "COneDNN", linkerSettings: [.linkedLibrary("dnnl")]),
        .target(name: "CKernels"),
        .systemLibrary(name: "COpenSSL"),
        // Open MPI's or MPICH's flags, of which a build without the trait needs none.
        .systemLibrary(
            name: "MPI", pkgConfig: Context.environment["MPI"] ?? "ompi-c", providers: [.apt(["libopenmpi-dev"])]),
        .target(
            name: "CMPI", dependencies: [.target(name: "MPI", condition: mpi)],
            cSettings: [.define("MPI", .when(traits: ["MPI"]))]),
        .target(name: "FeedbackTransformer", swiftSettings: strict),
        .target(
            name: "FeedbackEngine", dependencies: ["COneDNN", "CKernels", "FeedbackTransformer"], swiftSettings: strict),
        .target(name: "CDevice", linkerSettings: [.linkedLibrary("dl", .when(platforms: [.linux]))]),
        .target(
            name: "FeedbackDevice", dependencies: ["CDevice", "FeedbackTransformer"],
            resources: kernels.map { .embedInCode("Kernels/\($0).cl") }, swiftSettings: strict),
        .target(
            name: "FeedbackTraining",
            dependencies: [
                "FeedbackDevice",
                "FeedbackEngine",
                "FeedbackTransformer",
                .product(name: "Yams", package: "Yams"),
                .target(name: "COpenSSL", condition: .when(platforms: [.linux])),
            ], swiftSettings: strict),
        .target(
            name: "FeedbackRuns",
            dependencies: ["FeedbackTraining", "FeedbackTransformer", .product(name: "GRDB", package: "GRDB.swift")],
            swiftSettings: strict),
        .target(
            name: "FeedbackServer",
            dependencies: [
                "FeedbackEngine",
                "FeedbackRuns",
                "FeedbackTraining",
                "FeedbackTransformer",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            resources: page.map { .embedInCode("Dashboard/\($0)") }, swiftSettings: strict),
        .executableTarget(
            name: "feedback",
            dependencies: [
                "FeedbackDevice",
                "FeedbackEngine",
                "FeedbackServer",
                "FeedbackRuns",
                "FeedbackTraining",
                "FeedbackTransformer",
                .target(name: "CMPI", condition: mpi),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], swiftSettings: strict),
        .testTarget(
            name: "FeedbackEngineTests", dependencies: ["FeedbackEngine", "FeedbackTransformer"], swiftSettings: strict),
        .testTarget(
            name: "FeedbackDeviceTests", dependencies: ["FeedbackDevice", "FeedbackEngine", "FeedbackTransformer"],
            swiftSettings: strict),
        .testTarget(
            name: "FeedbackTransformerTests", dependencies: ["FeedbackEngine", "FeedbackTransformer"],
            resources: [.copy("Fixtures")], swiftSettings: strict),
        .testTarget(
            name: "FeedbackTrainingTests", dependencies: ["FeedbackTraining"], resources: [.copy("Fixtures")],
            swiftSettings: strict),
        .testTarget(
            name: "FeedbackRunsTests", dependencies: ["FeedbackRuns", .product(name: "GRDB", package: "GRDB.swift")],
            swiftSettings: strict),
        .target(name: "TestedCommand", path: "Tests/TestedCommand", swiftSettings: strict),
        .testTarget(
            name: "FeedbackServerTests", dependencies: ["FeedbackServer", "TestedCommand", "feedback"],
            swiftSettings: strict),
        .testTarget(
            name: "feedbackTests", dependencies: ["FeedbackTraining", "TestedCommand", "feedback"],
            swiftSettings: strict),
        .testTarget(
            name: "FuzzTests", dependencies: ["FeedbackEngine", "FeedbackRuns", "FeedbackServer", "FeedbackTraining"],
            path: "Tests/Fuzzing", resources: [.copy("Corpus")], swiftSettings: strict),
    ]
)
