import Testing

@Suite struct DeviceCommandTests {
    /// The processor is always there; what there is not, is refused in one line that says what to do.
    @Test func devicesAreListedAndRefused() throws {
        let place = try Workplace()
        let listed = try place.run(["devices", "--json"])
        #expect(listed.status == 0 && listed.output.contains(#""name":"cpu""#), "\(listed.errors)")
        for (device, needed) in [
            ("gpu", "must be cpu, cuda, opencl"), ("cuda:99", "install"), ("opencl:99", "install"),
        ] {
            let refused = try place.train("run", steps: 1, ["--device", device])
            let errors = refused.errors.split(separator: "\n").filter { $0.hasPrefix("Error: ") }
            #expect(refused.status == 1 && errors.count == 1, "\(refused.errors)")
            #expect(refused.errors.contains(needed) || refused.errors.contains("feedback devices lists them"))
        }
    }
}
