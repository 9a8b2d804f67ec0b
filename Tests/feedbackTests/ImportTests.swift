import Foundation
import Testing

/// A model that leaves for PyTorch and comes back.
@Suite struct ImportTests {
    private let greedy = ["--prompt", "the", "--max-tokens", "40", "--temperature", "0", "--memory-window", "16"]

    @Test(arguments: ["shared", "per-layer"]) func modelsLeaveAndComeBack(keyValue: String) throws {
        let place = try Workplace()
        let wiring = ["--memory-norm", "none", "--key-value", keyValue]
        #expect(try place.train("run", steps: 10, wiring).status == 0)
        let text = try place.run(["generate", "run"] + greedy)
        for format in ["labml", "safetensors"] {
            let file = "model.\(format)"
            let exported = try place.run(["export", "run", "--format", format, "--output", file])
            #expect(exported.status == 0 && exported.output == "\(file)\n", "\(exported.errors)")
            #expect(exported.errors.contains("the run's best checkpoint"))
            for (number, vocabulary) in [["--text", "text.txt"], ["--characters", "\\n acdehmnorst"]].enumerated() {
                let folder = "\(format)-\(number)"
                let imported = try place.run(["import", "labml", file, "--output", folder] + vocabulary)
                #expect(imported.status == 0 && imported.output == "\(folder)\n", "\(imported.errors)")
                #expect(
                    imported.errors.contains(
                        "keys and values \(keyValue), layers 1, d-model 16, heads 2, d-ff 32;"))
                #expect(try place.run(["generate", folder] + greedy).output == text.output)
            }
        }
    }

    @Test func badCheckpointsGetOneClearLine() throws {
        let place = try Workplace()
        #expect(try place.train("run", steps: 2).status == 0)
        #expect(try place.train("labml", steps: 2, ["--memory-norm", "none"]).status == 0)
        #expect(try place.run(["export", "labml", "--format", "labml", "--output", "model.pt"]).status == 0)
        let good = try Data(contentsOf: place.url.appending(path: "model.pt"))
        try good.dropLast().write(to: place.url.appending(path: "cut.pt"))
        try Data("PK\u{3}\u{4}".utf8).write(to: place.url.appending(path: "short.pt"))
        try Data().write(to: place.url.appending(path: "empty.pt"))
        try Data([0xff]).write(to: place.url.appending(path: "latin1.txt"))
        try FileManager.default.createDirectory(
            at: place.url.appending(path: "folder"), withIntermediateDirectories: true)
        func importing(_ file: String, _ more: String...) -> [String] {
            ["import", "labml", file, "--output", "new"] + (more.isEmpty ? ["--text", "text.txt"] : more)
        }
        func export(_ model: String, _ format: String, _ output: String) -> [String] {
            ["export", model, "--format", format, "--output", output]
        }
        let cases: [([String], String)] = [
            (importing("missing.pt"), "cannot read"), (importing("empty.pt"), "it is no file of torch.save"),
            (importing("text.txt"), "it is no file of torch.save"), (importing("short.pt"), "cut off"),
            (importing("cut.pt"), "cut off"), (importing("folder"), "info.json"), (importing("run"), "info.json"),
            (importing("model.pt", "--text", "missing.txt"), "cannot read"),
            (importing("model.pt", "--text", "latin1.txt"), "is not UTF-8 text"),
            (importing("model.pt", "--characters", "abc"), "--characters has 3 characters, the model"),
            (importing("model.pt", "--characters", "aba"), "have \"a\" twice"),
            (importing("model.pt", "--characters", ""), "--characters has 0 characters"),
            (["import", "labml", "model.pt", "--output", "new"], "give the text that it was trained on"),
            (["import", "labml", "model.pt", "--output", "run"], "run is there already"),
            (["import", "labml", "model.pt", "--output", "text.txt/a", "--text", "text.txt"], "cannot create"),
            (export("run", "labml", "new.pt"), "--memory-norm none"), (export("nowhere", "labml", "new.pt"), "nowhere"),
            (export("labml", "labml", "model.pt"), "is there already"),
            (export("labml", "labml", "nowhere/new.pt"), "nowhere/new.pt: there is no folder"),
        ]
        for (arguments, message) in cases { try place.expectRefusal(of: arguments, message) }
        for wrong in [
            importing("model.pt", "--text", "text.txt", "--characters", "a"), ["import", "nanogpt", "model.pt"],
            export("labml", "onnx", "new"),
        ] {
            #expect(try place.run(wrong).status == 64)
        }
    }
}
