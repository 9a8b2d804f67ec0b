import FeedbackTransformer
import Foundation
import GRDB

/// The history of runs, of every run folder on this machine: settings, metrics, samples and checkpoints, in one SQLite file.
///
/// ```swift
/// let store = try RunStore(at: RunStore.defaultURL())
/// for run in try store.runs() { print(run.name, run.state(), run.step) }
/// ```
///
/// Several trainings write to it at once and others read meanwhile (write-ahead log). A process may be killed at any moment:
/// what it had committed stays.
public final class RunStore: Sendable {
    public let url: URL
    /// nil where the history can only be read.
    private let database: DatabasePool?

    /// `$FEEDBACK_RUNS`, else `feedback/runs.sqlite` in `$XDG_DATA_HOME`, by default `~/.local/share`.
    public static func defaultURL(_ environment: [String: String] = ProcessInfo.processInfo.environment) -> URL {
        if let path = environment["FEEDBACK_RUNS"], !path.isEmpty { return URL(filePath: path) }
        let data = environment["XDG_DATA_HOME"].flatMap { $0.hasPrefix("/") ? URL(filePath: $0) : nil }
        let home = environment["HOME"].map { URL(filePath: $0) } ?? FileManager.default.homeDirectoryForCurrentUser
        return (data ?? home.appending(path: ".local/share")).appending(path: "feedback/runs.sqlite")
    }

    /// Opens the history, a new one where there is none; one that cannot be written, such as another user's, to read
    /// it. Throws where the file cannot be had or is no history.
    public init(at url: URL) throws(RunStoreError) {
        self.url = url
        do {
            if Self.isReadOnly(url) {
                database = nil
                try Self.openToRead(url).read(Self.check)
                return
            }
            try FileManager.default.createDirectory(
                at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
            let database = try Self.open(url.path)
            self.database = database
            try Self.migrate(database)
        } catch {
            throw RunStoreError(
                "cannot open the run history \(url.path): \(explain(error)); name another file with --runs")
        }
    }

    /// Whether there is a history that cannot be written; a write-ahead log needs its folder too.
    private static func isReadOnly(_ url: URL) -> Bool {
        access(url.path, R_OK) == 0
            && (access(url.path, W_OK) != 0 || access(url.deletingLastPathComponent().path, W_OK) != 0)
    }

    /// Opens a history that cannot be written. Where nobody else has made the write-ahead log's files, SQLite must be
    /// told that there is none; as that may change, such a connection is for one reading only.
    private static func openToRead(_ url: URL) throws -> DatabaseQueue {
        var configuration = Self.configuration
        configuration.readonly = true
        if let shared = try? DatabaseQueue(path: url.path, configuration: configuration) { return shared }
        return try DatabaseQueue(path: url.absoluteString + "?immutable=1", configuration: configuration)
    }

    private static var configuration: Configuration {
        var configuration = Configuration()
        configuration.busyMode = .timeout(10)
        configuration.label = "runs"
        return configuration
    }

    private static func open(_ path: String) throws -> DatabasePool {
        // SQLite does not wait where two open a new file at once and both want the write-ahead log.
        for _ in 0..<500 {
            do {
                if FileManager.default.fileExists(atPath: path) {
                    // Looked at before anything is changed: it may be somebody else's.
                    var reading = configuration
                    reading.readonly = true
                    try DatabaseQueue(path: path, configuration: reading).read(check)
                }
                return try DatabasePool(path: path, configuration: configuration)
            } catch let error as DatabaseError where error.resultCode == .SQLITE_BUSY {
                Thread.sleep(forTimeInterval: 0.02)
            }
        }
        return try DatabasePool(path: path, configuration: configuration)
    }

    // MARK: Versions

    /// The versions of a history, each as what it adds to the one before. Every one counts `user_version` up, which is all
    /// that the first feedbacks look at.
    private static let versions: DatabaseMigrator = {
        var versions = DatabaseMigrator()
        versions.registerMigration("1", foreignKeyChecks: .immediate) { db in
            // The first feedbacks had this version, and no record of migrations.
            if try !db.tableExists("runs") { try db.execute(sql: schema) }
        }
        return versions
    }()

    /// Throws where a database is no history, or one of a later version; one in which there is nothing yet is one.
    private static func check(_ db: Database) throws {
        let version = try Int.fetchOne(db, sql: "PRAGMA user_version")!
        guard try version <= versions.migrations.count && !versions.hasBeenSuperseded(db) else {
            throw RunStoreError("it is of a later version of feedback")
        }
        let tables = try String.fetchSet(db, sql: "SELECT name FROM sqlite_master WHERE type = 'table'")
        guard version == 0 ? tables.isSubset(of: ["grdb_migrations"]) : tables.isSuperset(of: ["runs", "steps"]) else {
            throw RunStoreError("it is a database of something else")
        }
    }

    private static func migrate(_ database: DatabasePool) throws {
        // Another process that opens it at the same time may be first with a version, and has then entered it.
        for _ in versions.migrations {
            do { return try versions.migrate(database) } catch DatabaseError.SQLITE_CONSTRAINT {}
        }
        try versions.migrate(database)
    }

    private static let schema = """
        CREATE TABLE runs (
            id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, folder TEXT NOT NULL, status TEXT NOT NULL,
            configuration TEXT NOT NULL, revision TEXT, machine TEXT NOT NULL, host TEXT NOT NULL, process INTEGER NOT NULL,
            created REAL NOT NULL, updated REAL NOT NULL, ended REAL, step INTEGER NOT NULL, totalSteps INTEGER NOT NULL,
            loss REAL, validation REAL, bestValidation REAL, tokensPerSecond REAL, failure TEXT);
        CREATE INDEX runsByFolder ON runs (folder);
        CREATE TABLE steps (
            run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, step INTEGER NOT NULL, time REAL NOT NULL,
            loss REAL NOT NULL, accuracy REAL NOT NULL, learningRate REAL NOT NULL, gradientNorm REAL,
            seconds REAL NOT NULL, tokens INTEGER NOT NULL, PRIMARY KEY (run, step)) WITHOUT ROWID;
        CREATE TABLE validations (
            run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, step INTEGER NOT NULL, time REAL NOT NULL,
            loss REAL NOT NULL, bitsPerCharacter REAL NOT NULL, perplexity REAL NOT NULL, accuracy REAL NOT NULL,
            tokens INTEGER NOT NULL, layerWeights TEXT, PRIMARY KEY (run, step)) WITHOUT ROWID;
        CREATE TABLE samples (
            run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, step INTEGER NOT NULL, time REAL NOT NULL,
            text TEXT NOT NULL, PRIMARY KEY (run, step)) WITHOUT ROWID;
        CREATE TABLE checkpoints (
            run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, step INTEGER NOT NULL, time REAL NOT NULL,
            path TEXT NOT NULL, PRIMARY KEY (run, step)) WITHOUT ROWID;
        PRAGMA user_version = 1;
        """

    // MARK: Reading

    /// All runs, newest first.
    public func runs() throws(RunStoreError) -> [Run] {
        try read { try Run.order(Column("id").desc).fetchAll($0) }
    }

    /// The run of an id, of a folder, or the newest of a name.
    public func run(_ asked: String) throws(RunStoreError) -> Run {
        let folder = URL(filePath: asked).standardizedFileURL
        // A folder that has been moved says itself which run it is.
        let began = RunFile(of: folder)?.began
        let run = try read { db in
            try Run.fetchOne(db, sql: "SELECT * FROM runs WHERE id = ?", arguments: [Int64(asked)])
                ?? Run.fetchOne(
                    db,
                    sql: """
                        SELECT * FROM runs WHERE folder = ? OR name = ? OR created = ? ORDER BY folder = ? DESC, id DESC
                        """,
                    arguments: [folder.path, asked, began, folder.path])
        }
        guard let run else {
            throw RunStoreError("there is no run \(asked) in \(url.path); feedback runs list shows those there are")
        }
        return run
    }

    /// The metrics of a run after a step: of all steps, or of `most` at most, evenly spaced up to the last.
    public func metrics(_ run: Int64, after step: Int = -1, most: Int? = nil) throws(RunStoreError) -> RunMetrics {
        try read { db in
            func rows<Row: FetchableRecord & TableRecord>() throws -> [Row] {
                try Row.filter(Column("run") == run && Column("step") > step).order(Column("step")).fetchAll(db)
            }
            func steps(_ most: Int) throws -> [RunMetrics.Step] {
                let sql = """
                    SELECT * FROM (
                        SELECT *, ROW_NUMBER() OVER (ORDER BY step DESC) - 1 AS place FROM steps WHERE run = ? AND step > ?)
                    WHERE place % (SELECT MAX(1, (COUNT(*) + ? - 1) / ?) FROM steps WHERE run = ? AND step > ?) = 0
                    ORDER BY step
                    """
                return try RunMetrics.Step.fetchAll(db, sql: sql, arguments: [run, step, most, most, run, step])
            }
            return RunMetrics(
                steps: try most.map(steps) ?? rows(), validations: try rows(), samples: try rows(),
                checkpoints: try rows())
        }
    }

    /// A run's training loss as so many means at most, first to last: enough for a small picture.
    public func losses(_ run: Int64, points: Int) throws(RunStoreError) -> [Double] {
        try read { db in
            try Double.fetchAll(
                db,
                sql: """
                    SELECT AVG(loss) FROM (SELECT loss, NTILE(?) OVER (ORDER BY step) AS part FROM steps WHERE run = ?)
                    GROUP BY part ORDER BY part
                    """, arguments: [points, run])
        }
    }

    /// Removes a run and its metrics from the history; its folder stays. Throws where it is being trained.
    public func delete(_ run: Run) throws(RunStoreError) {
        guard run.state() != .running else {
            throw RunStoreError("run \(run.id!) (\(run.name)) is being trained; stop it first")
        }
        _ = try write { try Run.deleteOne($0, key: run.id) }
    }

    func read<Value>(_ body: (Database) throws -> Value) throws(RunStoreError) -> Value {
        do {
            guard let database else { return try Self.openToRead(url).read(body) }
            return try database.read(body)
        } catch {
            throw RunStoreError("cannot read the run history \(url.path): \(explain(error))")
        }
    }

    func write<Value>(_ body: (Database) throws -> Value) throws(RunStoreError) -> Value {
        guard let database else { throw RunStoreError("the run history \(url.path) can only be read") }
        do { return try database.write(body) } catch {
            throw RunStoreError("cannot write the run history \(url.path): \(explain(error))")
        }
    }
}

/// A run history that cannot be used, and what to do.
public struct RunStoreError: Error, Equatable, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
}

private func explain(_ error: any Error) -> String {
    switch error {
    case let error as RunStoreError: error.description
    case let error as DatabaseError: error.message ?? "\(error.resultCode)"
    default: reason(error)
    }
}
