/// A file of the page, which lies in the binary.
struct DashboardFile: Sendable {
    let type: String
    let bytes: [UInt8]

    /// By path. A file is listed here and in Package.swift.
    static let all: [String: DashboardFile] = [
        "/": file("html", PackageResources.index_html),
        "/dashboard.css": file("css", PackageResources.dashboard_css),
        "/icon.svg": file("svg", PackageResources.icon_svg),
        "/app.js": file("js", PackageResources.app_js),
        "/attention.js": file("js", PackageResources.attention_js),
        "/chart.js": file("js", PackageResources.chart_js),
        "/compare.js": file("js", PackageResources.compare_js),
        "/curves.js": file("js", PackageResources.curves_js),
        "/dom.js": file("js", PackageResources.dom_js),
        "/format.js": file("js", PackageResources.format_js),
        "/heatmap.js": file("js", PackageResources.heatmap_js),
        "/pointing.js": file("js", PackageResources.pointing_js),
        "/run.js": file("js", PackageResources.run_js),
        "/runs.js": file("js", PackageResources.runs_js),
        "/samples.js": file("js", PackageResources.samples_js),
        "/scale.js": file("js", PackageResources.scale_js),
        "/series.js": file("js", PackageResources.series_js),
        "/server.js": file("js", PackageResources.server_js),
        "/settings.js": file("js", PackageResources.settings_js),
        "/view.js": file("js", PackageResources.view_js),
        "/watch.js": file("js", PackageResources.watch_js),
        "/weights.js": file("js", PackageResources.weights_js),
    ]

    private static func file(_ kind: String, _ bytes: [UInt8]) -> DashboardFile {
        let types = [
            "html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8",
            "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml",
        ]
        return DashboardFile(type: types[kind]!, bytes: bytes)
    }

    /// Nothing from elsewhere, no script or style in the page's own text; the page sets styles of single elements.
    static let policy =
        "default-src 'self'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
}
