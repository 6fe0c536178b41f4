#include "sandbox/store_database.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "base/files.h"
#include "base/strings.h"

namespace sbxfs {
namespace {

// A journal of an older version is brought up to date one step after the other; a new one takes the same way.
constexpr int kSchemaVersion = 4;

// Up to SQLite's own checkpoints, each 1,000 pages, and what one transaction goes beyond them.
constexpr std::size_t kWalBytes = 4608U << 10;
// Where the disk has less than this it has better uses.
constexpr std::uint64_t kPlenty = 256U << 20;

constexpr const char* kSchema = R"sql(
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE sandboxes(
    generation INTEGER PRIMARY KEY, name TEXT NOT NULL, template TEXT NOT NULL, stage INTEGER NOT NULL,
    client_public TEXT NOT NULL, client_private TEXT NOT NULL,
    host_public TEXT NOT NULL, host_private TEXT NOT NULL,
    provider_id TEXT NOT NULL, connect TEXT, facts TEXT NOT NULL, ended_as TEXT NOT NULL, error TEXT NOT NULL,
    phases TEXT NOT NULL, spool_id INTEGER NOT NULL, boot_id INTEGER NOT NULL, protected INTEGER NOT NULL, created_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL) STRICT;
CREATE TABLE commands(
    generation INTEGER NOT NULL, n INTEGER NOT NULL, forgotten INTEGER NOT NULL DEFAULT 0,
    spec TEXT NOT NULL, script_size INTEGER NOT NULL, accepted_ms INTEGER NOT NULL,
    status INTEGER NOT NULL, exit_code INTEGER, signal INTEGER NOT NULL, started_ms INTEGER NOT NULL,
    finished_ms INTEGER NOT NULL, duration_us INTEGER NOT NULL, stdout_size INTEGER NOT NULL,
    stderr_size INTEGER NOT NULL, shell_restarted INTEGER NOT NULL, reason TEXT NOT NULL,
    holes TEXT NOT NULL, finish_order INTEGER NOT NULL,
    PRIMARY KEY(generation, n)) STRICT;
CREATE TABLE scripts(
    generation INTEGER NOT NULL, n INTEGER NOT NULL, script BLOB NOT NULL, PRIMARY KEY(generation, n)) STRICT;
)sql";

// kUpgrades[i] makes version i + 2 of version i + 1.
constexpr std::array<const char*, kSchemaVersion - 1> kUpgrades = {R"sql(
ALTER TABLE sandboxes ADD COLUMN config TEXT NOT NULL DEFAULT '';
ALTER TABLE sandboxes ADD COLUMN lifetime_end_ms INTEGER;
ALTER TABLE sandboxes ADD COLUMN idle_timeout_s INTEGER;
CREATE TABLE templates(name TEXT PRIMARY KEY, text TEXT) STRICT;
)sql",
                                                                   R"sql(
ALTER TABLE sandboxes ADD COLUMN times_set_ms INTEGER NOT NULL DEFAULT 0;
)sql",
                                                                   R"sql(
ALTER TABLE commands ADD COLUMN unarrived TEXT NOT NULL DEFAULT '';
)sql"};

Json SpecToJson(const CommandSpec& spec) {
    Json json = Json::Object();
    if (!spec.name.empty()) json.Set("name", spec.name);
    if (spec.lane == CommandLane::kParallel) json.Set("parallel", true);
    if (!spec.cwd.empty()) json.Set("cwd", spec.cwd);
    if (!spec.shell.empty()) json.Set("shell", spec.shell);
    if (!spec.user.empty()) json.Set("user", spec.user);
    if (spec.login_shell) json.Set("login_shell", true);
    if (spec.timeout_ms != 0) json.Set("timeout_ms", spec.timeout_ms);
    if (!spec.env.empty()) json.Set("env", Json::Object(spec.env));
    return json;
}

CommandSpec SpecFromJson(std::string_view text) {
    CommandSpec spec;
    const Json json = Json::Parse(text).value_or(Json::Object());
    spec.name = json.GetString("name").value_or("");
    spec.lane =
        json.GetBool("parallel").value_or(false) ? CommandLane::kParallel : CommandLane::kSerial;
    spec.cwd = json.GetString("cwd").value_or("");
    spec.shell = json.GetString("shell").value_or("");
    spec.user = json.GetString("user").value_or("");
    spec.login_shell = json.GetBool("login_shell").value_or(false);
    spec.timeout_ms = json.GetNumber("timeout_ms").value_or(0);
    if (const auto env = json.Find("env")) {
        for (const auto& [key, value] : env->Members())
            spec.env[key] = value.AsString().value_or("");
    }
    return spec;
}

// "" without holes, else [[from, to, ...], [from, to, ...]] of stdout and stderr.
std::string HolesToText(const EventState& state) {
    if (state.stdout_holes.empty() && state.stderr_holes.empty()) return "";
    Json both = Json::Array();
    for (const OutputHoles* holes : {&state.stdout_holes, &state.stderr_holes}) {
        Json ends = Json::Array();
        for (const OutputHole& hole : *holes) {
            ends.Append(Json::Number(static_cast<std::int64_t>(hole.from)));
            ends.Append(Json::Number(static_cast<std::int64_t>(hole.to)));
        }
        both.Append(ends);
    }
    return both.Dump();
}

void HolesFromText(std::string_view text, EventState& state) {
    if (text.empty()) return;
    const std::vector<Json> both = Json::Parse(text).value_or(Json()).Elements();
    for (std::size_t i = 0; i < both.size() && i < 2; ++i) {
        const std::vector<Json> ends = both[i].Elements();
        for (std::size_t at = 0; at + 1 < ends.size(); at += 2) {
            AddHole(i == 0 ? state.stdout_holes : state.stderr_holes,
                    {static_cast<std::uint64_t>(ends[at].AsNumber().value_or(0)),
                     static_cast<std::uint64_t>(ends[at + 1].AsNumber().value_or(0))});
        }
    }
}

std::string PhasesToText(const SandboxRecord& record) {
    Json json = Json::Array();
    for (const auto& [name, at_ms] : record.phases) {
        json.Append(Json::Object().Set("phase", name).Set("at_ms", at_ms));
    }
    return json.Dump();
}

std::string RefusalKey(Generation generation) {
    return "refusal." + ToString(generation);
}

void Bind(sqlite3_stmt* statement, int index, std::int64_t value) {
    CHECK(sqlite3_bind_int64(statement, index, value) == SQLITE_OK);
}
// The text outlives the step: bound without a copy.
void Bind(sqlite3_stmt* statement, int index, std::string_view text) {
    CHECK(sqlite3_bind_text64(statement, index, text.data(), text.size(), SQLITE_STATIC,
                              SQLITE_UTF8) == SQLITE_OK);
}
// SQLite has no unsigned 64-bit numbers: the bits are kept.
std::int64_t Bits(std::uint64_t value) {
    return static_cast<std::int64_t>(value);
}

}  // namespace

// One row of a result, read by position.
class StoreDatabase::Row {
 public:
    explicit Row(sqlite3_stmt* statement) : statement_(statement) {}
    std::int64_t Number() { return sqlite3_column_int64(statement_, column_++); }
    std::uint64_t Unsigned() { return static_cast<std::uint64_t>(Number()); }
    bool IsNull() const { return sqlite3_column_type(statement_, column_) == SQLITE_NULL; }
    void Skip() { ++column_; }
    std::string Text() {
        const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_, column_));
        const int size = sqlite3_column_bytes(statement_, column_);
        ++column_;
        return bytes == nullptr ? std::string()
                                : std::string(bytes, static_cast<std::size_t>(size));
    }

 private:
    sqlite3_stmt* statement_;
    int column_ = 0;
};

void StoreDatabase::CloseDatabase::operator()(sqlite3* database) const {
    (void)sqlite3_close(database);
}
void StoreDatabase::FinalizeStatement::operator()(sqlite3_stmt* statement) const {
    (void)sqlite3_finalize(statement);
}

StoreDatabase::~StoreDatabase() = default;

// Each commit is an fdatasync(2). One that makes the file longer is a transaction of ext4's own journal as well, a millisecond
// or three; into blocks that are written already it takes a tenth of that. Zeros behind the last frame are no frames to
// SQLite, which writes over them, and from the beginning again after each checkpoint. Where this fails, commits are slower.
void StoreDatabase::FillWal() {
    const Result<UniqueFd> file = OpenFile(wal_, O_WRONLY);
    struct stat now {};
    struct statvfs disk {};
    if (!file || ::fstat(file->get(), &now) != 0 || ::fstatvfs(file->get(), &disk) != 0) return;
    const auto size = static_cast<std::size_t>(now.st_size);
    if (size >= kWalBytes || disk.f_bavail * disk.f_frsize < kPlenty) return;
    const std::string zeros(kWalBytes - size, '\0');
    if (::pwrite(file->get(), zeros.data(), zeros.size(), now.st_size) > 0)
        (void)::fdatasync(file->get());
}

Result<std::unique_ptr<StoreDatabase>> StoreDatabase::Open(const std::string& path) {
    const mode_t before = ::umask(077);  // the journal holds keys; single-threaded at this point
    sqlite3* raw = nullptr;
    const int code =
        sqlite3_open_v2(path.c_str(), &raw,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
    std::unique_ptr<StoreDatabase> database(new StoreDatabase(raw));
    Status ready = code == SQLITE_OK ? database->Migrate() : database->Failure("opening it");
    (void)::umask(before);
    if (!ready) return std::move(ready).error().While("opening the journal " + path);
    database->wal_ = path + "-wal";
    return database;
}

// The errno behind an I/O error, 0 where none is known. SQLite keeps it by file, and not at all of a COMMIT.
int StoreDatabase::Cause() const {
    if (const int code = sqlite3_system_errno(database_.get()); code != 0) return code;
    sqlite3_file* wal = nullptr;
    int code = 0;
    if (sqlite3_file_control(database_.get(), "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal) !=
            SQLITE_OK ||
        wal == nullptr || wal->pMethods == nullptr ||
        wal->pMethods->xFileControl(wal, SQLITE_FCNTL_LAST_ERRNO, &code) != SQLITE_OK)
        return 0;
    return code;
}

Error StoreDatabase::Failure(std::string_view doing) const {
    const int code = sqlite3_extended_errcode(database_.get());
    std::string what = std::string(doing) + ": " + sqlite3_errmsg(database_.get());
    // A full disk shows as SQLITE_FULL from write(2) and as an I/O error from the pre-allocation of
    // the WAL.
    const int cause = (code & 0xff) == SQLITE_IOERR ? Cause() : 0;
    if ((code & 0xff) == SQLITE_FULL || cause == ENOSPC || cause == EDQUOT) {
        return {Errno{ENOSPC}, what + ": free some space on the disk of the state directory",
                Blame::kBug};
    }
    if ((code & 0xff) == SQLITE_NOTADB || (code & 0xff) == SQLITE_CORRUPT) {
        return {Errno{EIO},
                what + ": the journal is damaged; restore it or start with another state_dir",
                Blame::kBug};
    }
    if (cause != 0) what += std::string(" (") + ::strerror(cause) + ")";
    return {Errno{EIO}, std::move(what), Blame::kBug};
}

Status StoreDatabase::Execute(const char* sql) {
    if (sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK)
        return Failure(sql);
    return Ok();
}

void StoreDatabase::Rollback() {
    // SQLite has already rolled back by itself after some errors; then this one fails, harmlessly.
    (void)sqlite3_exec(database_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
}

// The frames of a failed commit lie behind the end of the WAL. The next commit begins there, and what is left of the others
// behind it has no valid checksum any more.
Status StoreDatabase::TakeBack() {
    (void)TRY(Begin());
    Status status = SetMeta("taken_back", Hex(RandomBytes(8)));
    if (status) status = Commit();
    if (!status) Rollback();
    return status;
}

Status StoreDatabase::Migrate() {
    // EXCLUSIVE keeps the WAL index in memory: the state directory's lock already made us the only
    // user.
    (void)TRY(Execute("PRAGMA locking_mode=EXCLUSIVE"));
    (void)TRY(Execute("PRAGMA journal_mode=WAL"));
    (void)TRY(Execute(
        "PRAGMA synchronous=FULL"));  // NORMAL may forget the newest commits after a power cut
    (void)TRY(Execute("PRAGMA secure_delete=ON"));  // keys
    (void)TRY(Execute("PRAGMA journal_size_limit=16777216"));

    int version = 0;
    {
        const StatementPtr statement = TRY(Prepare("PRAGMA user_version"));
        if (sqlite3_step(statement.get()) != SQLITE_ROW) return Failure("reading its version");
        version = sqlite3_column_int(statement.get(), 0);
    }
    if (version > kSchemaVersion) {
        return Error(Errno{EINVAL}, "it was written by a newer sbxfs (schema " +
                                        std::to_string(version) +
                                        "): use that version, or another state_dir");
    }
    if (version < kSchemaVersion) {
        (void)TRY(Begin());
        if (version == 0) (void)TRY(Execute(kSchema));
        for (std::size_t i = static_cast<std::size_t>(std::max(version, 1)) - 1;
             i < kUpgrades.size(); ++i)
            (void)TRY(Execute(kUpgrades.at(i)));
        (void)TRY(Execute(("PRAGMA user_version=" + std::to_string(kSchemaVersion)).c_str()));
        (void)TRY(Commit());
    }
    insert_command_ = TRY(Prepare(
        "INSERT INTO commands(status, exit_code, signal, started_ms, finished_ms, duration_us, "
        "stdout_size,"
        " stderr_size, shell_restarted, reason, holes, finish_order, generation, n, spec,"
        " script_size, accepted_ms, unarrived) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"));
    insert_script_ = TRY(Prepare("INSERT INTO scripts(generation, n, script) VALUES(?,?,?)"));
    update_command_ = TRY(Prepare(
        "UPDATE commands SET status=?, exit_code=?, signal=?, started_ms=?, finished_ms=?, "
        "duration_us=?,"
        " stdout_size=?, stderr_size=?, shell_restarted=?, reason=?, holes=?, finish_order=?"
        " WHERE generation=? AND n=?"));
    return Ok();
}

Result<StoreDatabase::StatementPtr> StoreDatabase::Prepare(std::string_view sql) {
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v2(database_.get(), sql.data(), static_cast<int>(sql.size()), &statement,
                           nullptr) != SQLITE_OK) {
        return Failure(sql);
    }
    return StatementPtr(statement);
}

Status StoreDatabase::Step(sqlite3_stmt* statement, std::string_view doing) {
    const int code = sqlite3_step(statement);
    Status status = code == SQLITE_DONE ? Ok() : Status(Failure(doing));
    (void)sqlite3_reset(statement);
    (void)sqlite3_clear_bindings(statement);
    return status;
}

Result<std::string> StoreDatabase::Meta(std::string_view key) {
    const StatementPtr statement = TRY(Prepare("SELECT value FROM meta WHERE key=?"));
    Bind(statement.get(), 1, key);
    const int code = sqlite3_step(statement.get());
    if (code == SQLITE_DONE) return std::string();
    if (code != SQLITE_ROW) return Failure("reading meta");
    return Row(statement.get()).Text();
}

Status StoreDatabase::SetMeta(std::string_view key, std::string_view value) {
    const StatementPtr statement =
        TRY(Prepare("INSERT OR REPLACE INTO meta(key, value) VALUES(?,?)"));
    Bind(statement.get(), 1, key);
    Bind(statement.get(), 2, value);
    return Step(statement.get(), "writing meta");
}

Result<std::vector<SandboxRecord>> StoreDatabase::Sandboxes() {
    const StatementPtr statement = TRY(Prepare(
        "SELECT generation, name, template, stage, client_public, client_private, host_public, "
        "host_private,"
        " provider_id, connect, facts, ended_as, error, phases, spool_id, boot_id, protected,"
        " created_ms, ended_ms, config, lifetime_end_ms, idle_timeout_s, times_set_ms"
        " FROM sandboxes ORDER BY generation"));
    std::vector<SandboxRecord> records;
    int code = 0;
    while ((code = sqlite3_step(statement.get())) == SQLITE_ROW) {
        Row row(statement.get());
        SandboxRecord record;
        record.generation = Generation{row.Unsigned()};
        record.name = row.Text();
        record.what = TRY(Template::FromJson(Json::Parse(row.Text()).value_or(Json())));
        record.stage = static_cast<Stage>(row.Number());
        record.client_key.public_line = row.Text();
        record.client_key.private_pem = Secret(row.Text());
        record.host_key.public_line = row.Text();
        record.host_key.private_pem = Secret(row.Text());
        record.provider_id = row.Text();
        if (row.IsNull()) {
            row.Skip();
        } else {
            record.connect = TRY(ConnectInfo::FromJson(Json::Parse(row.Text()).value_or(Json())));
        }
        record.facts = Json::Parse(row.Text()).value_or(Json::Object());
        record.ended_as = ParseSandboxStatus(row.Text()).value_or(SandboxStatus::kFailed);
        record.error = row.Text();
        for (const Json& phase : Json::Parse(row.Text()).value_or(Json()).Elements()) {
            record.phases.emplace_back(phase.GetString("phase").value_or(""),
                                       phase.GetNumber("at_ms").value_or(0));
        }
        record.spool_id = row.Unsigned();
        record.boot_id = row.Unsigned();
        record.is_protected = row.Number() != 0;
        record.created_ms = row.Number();
        record.ended_ms = row.Number();
        record.config = SandboxConfig::FromText(row.Text());
        SetFirstTimes(record);
        if (row.IsNull()) {
            row.Skip();
            row.Skip();
        } else {
            record.lifetime_end_ms = row.Number();
            record.idle_timeout_s = row.Number();
        }
        record.times_set_ms = row.Number();
        records.push_back(std::move(record));
    }
    if (code != SQLITE_DONE) return Failure("reading sandboxes");
    return records;
}

Result<std::vector<CommandRecord>> StoreDatabase::Commands(Generation generation) {
    const StatementPtr statement = TRY(Prepare(
        "SELECT n, spec, script_size, accepted_ms, unarrived, status, exit_code, signal, "
        "started_ms, "
        "finished_ms,"
        " duration_us, stdout_size, stderr_size, shell_restarted, reason, holes, finish_order,"
        " forgotten FROM commands"
        " WHERE generation=? ORDER BY n"));
    Bind(statement.get(), 1, Bits(Raw(generation)));
    std::vector<CommandRecord> records;
    int code = 0;
    while ((code = sqlite3_step(statement.get())) == SQLITE_ROW) {
        Row row(statement.get());
        CommandRecord record;
        record.generation = generation;
        record.n = EventNumber{row.Unsigned()};
        record.spec = SpecFromJson(row.Text());
        record.script_size = row.Unsigned();
        record.accepted_ms = row.Number();
        record.unarrived = row.Text();
        record.state.status = static_cast<EventStatus>(row.Number());
        if (row.IsNull()) {
            row.Skip();
        } else {
            record.state.exit_code = static_cast<int>(row.Number());
        }
        record.state.signal = static_cast<int>(row.Number());
        record.state.started_ms = row.Number();
        record.state.finished_ms = row.Number();
        record.state.duration_us = row.Number();
        record.state.stdout_size = row.Unsigned();
        record.state.stderr_size = row.Unsigned();
        record.state.shell_restarted = row.Number() != 0;
        record.state.reason = row.Text();
        HolesFromText(row.Text(), record.state);
        record.state.finish_order = row.Unsigned();
        record.forgotten = row.Number() != 0;
        records.push_back(std::move(record));
    }
    if (code != SQLITE_DONE) return Failure("reading commands");
    return records;
}

Result<Generation> StoreDatabase::LastGeneration() {
    const std::uint64_t removed = ParseNumber<std::uint64_t>(TRY(Meta("last_removed"))).value_or(0);
    const StatementPtr statement =
        TRY(Prepare("SELECT coalesce(max(generation), 0) FROM sandboxes"));
    if (sqlite3_step(statement.get()) != SQLITE_ROW) return Failure("reading the last generation");
    return Generation{std::max(removed, Row(statement.get()).Unsigned())};
}

Result<std::string> StoreDatabase::Script(Generation generation, EventNumber n) {
    const StatementPtr statement =
        TRY(Prepare("SELECT script FROM scripts WHERE generation=? AND n=?"));
    Bind(statement.get(), 1, Bits(Raw(generation)));
    Bind(statement.get(), 2, Bits(Raw(n)));
    const int code = sqlite3_step(statement.get());
    if (code == SQLITE_DONE)
        return Error(Errno{ENOENT}, "command " + ToString(n) + " was forgotten");
    if (code != SQLITE_ROW) return Failure("reading a script");
    return Row(statement.get()).Text();
}

Status StoreDatabase::PutSandbox(const SandboxRecord& record) {
    const StatementPtr statement = TRY(Prepare(
        "INSERT OR REPLACE INTO sandboxes(generation, name, template, stage, client_public,"
        " client_private, host_public, host_private, provider_id, connect, facts, ended_as, error,"
        " phases, spool_id, boot_id, protected, created_ms, ended_ms, config, lifetime_end_ms,"
        " idle_timeout_s, times_set_ms)"
        " VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"));
    sqlite3_stmt* raw = statement.get();
    const std::string what = record.what.ToJson().Dump();
    const std::string connect = record.connect ? record.connect->ToJson().Dump() : "";
    const std::string facts = record.facts.Dump();
    const std::string phases = PhasesToText(record);
    Bind(raw, 1, Bits(Raw(record.generation)));
    Bind(raw, 2, record.name);
    Bind(raw, 3, what);
    Bind(raw, 4, static_cast<std::int64_t>(record.stage));
    Bind(raw, 5, record.client_key.public_line);
    Bind(raw, 6, record.client_key.private_pem.Reveal());
    Bind(raw, 7, record.host_key.public_line);
    Bind(raw, 8, record.host_key.private_pem.Reveal());
    Bind(raw, 9, record.provider_id);
    if (record.connect) Bind(raw, 10, connect);
    Bind(raw, 11, facts);
    Bind(raw, 12, ToString(record.ended_as));
    Bind(raw, 13, record.error);
    Bind(raw, 14, phases);
    Bind(raw, 15, Bits(record.spool_id));
    Bind(raw, 16, Bits(record.boot_id));
    Bind(raw, 17, std::int64_t{record.is_protected ? 1 : 0});
    Bind(raw, 18, record.created_ms);
    Bind(raw, 19, record.ended_ms);
    const std::string config = record.config.ToText();
    Bind(raw, 20, config);
    Bind(raw, 21, record.lifetime_end_ms);
    Bind(raw, 22, record.idle_timeout_s);
    Bind(raw, 23, record.times_set_ms);
    return Step(raw, "writing a sandbox");
}

void StoreDatabase::BindState(sqlite3_stmt* statement, Generation generation, EventNumber n,
                              const EventState& state, std::string_view holes) {
    Bind(statement, 1, static_cast<std::int64_t>(state.status));
    if (state.exit_code) Bind(statement, 2, std::int64_t{*state.exit_code});
    Bind(statement, 3, std::int64_t{state.signal});
    Bind(statement, 4, state.started_ms);
    Bind(statement, 5, state.finished_ms);
    Bind(statement, 6, state.duration_us);
    Bind(statement, 7, Bits(state.stdout_size));
    Bind(statement, 8, Bits(state.stderr_size));
    Bind(statement, 9, std::int64_t{state.shell_restarted ? 1 : 0});
    Bind(statement, 10, state.reason);
    Bind(statement, 11, holes);
    Bind(statement, 12, Bits(state.finish_order));
    Bind(statement, 13, Bits(Raw(generation)));
    Bind(statement, 14, Bits(Raw(n)));
}

Status StoreDatabase::InsertCommand(const CommandRecord& record, std::string_view script) {
    const std::string spec = SpecToJson(record.spec).Dump();
    const std::string holes = HolesToText(record.state);
    BindState(insert_command_.get(), record.generation, record.n, record.state, holes);
    Bind(insert_command_.get(), 15, spec);
    Bind(insert_command_.get(), 16, Bits(record.script_size));
    Bind(insert_command_.get(), 17, record.accepted_ms);
    Bind(insert_command_.get(), 18, record.unarrived);
    (void)TRY(Step(insert_command_.get(), "writing a command"));
    Bind(insert_script_.get(), 1, Bits(Raw(record.generation)));
    Bind(insert_script_.get(), 2, Bits(Raw(record.n)));
    CHECK(sqlite3_bind_blob64(insert_script_.get(), 3, script.data(), script.size(),
                              SQLITE_STATIC) == SQLITE_OK);
    return Step(insert_script_.get(), "writing a script");
}

Status StoreDatabase::UpdateCommand(Generation generation, EventNumber n, const EventState& state) {
    const std::string holes = HolesToText(state);
    BindState(update_command_.get(), generation, n, state, holes);
    return Step(update_command_.get(), "writing an outcome");
}

Status StoreDatabase::FilesArrived(Generation generation, EventNumber n) {
    const StatementPtr statement =
        TRY(Prepare("UPDATE commands SET unarrived='' WHERE generation=? AND n=?"));
    Bind(statement.get(), 1, Bits(Raw(generation)));
    Bind(statement.get(), 2, Bits(Raw(n)));
    return Step(statement.get(), "writing that its files have arrived");
}

Status StoreDatabase::ForgetCommand(Generation generation, EventNumber n) {
    for (const std::string_view sql : {"UPDATE commands SET forgotten=1 WHERE generation=? AND n=?",
                                       "DELETE FROM scripts WHERE generation=? AND n=?"}) {
        const StatementPtr statement = TRY(Prepare(sql));
        Bind(statement.get(), 1, Bits(Raw(generation)));
        Bind(statement.get(), 2, Bits(Raw(n)));
        (void)TRY(Step(statement.get(), "forgetting a command"));
    }
    return Ok();
}

Result<std::map<std::string, std::optional<std::string>>> StoreDatabase::Templates() {
    const StatementPtr statement = TRY(Prepare("SELECT name, text FROM templates"));
    std::map<std::string, std::optional<std::string>> templates;
    int code = 0;
    while ((code = sqlite3_step(statement.get())) == SQLITE_ROW) {
        Row row(statement.get());
        const std::string name = row.Text();
        templates[name] = row.IsNull() ? std::nullopt : std::optional(row.Text());
    }
    if (code != SQLITE_DONE) return Failure("reading templates");
    return templates;
}

Status StoreDatabase::PutTemplate(std::string_view name, const std::optional<std::string>& text) {
    const StatementPtr statement =
        TRY(Prepare("INSERT OR REPLACE INTO templates(name, text) VALUES(?,?)"));
    Bind(statement.get(), 1, name);
    if (text) Bind(statement.get(), 2, *text);
    return Step(statement.get(), "writing a template");
}

// Rare, and gone again soon: beside the tables, as "NUMBER WHY".
Result<std::optional<NextRefusal>> StoreDatabase::Refusal(Generation generation) {
    const std::string text = TRY(Meta(RefusalKey(generation)));
    const std::size_t space = text.find(' ');
    const auto from = ParseNumber<std::uint64_t>(text.substr(0, space));
    if (!from || space == std::string::npos) return std::optional<NextRefusal>();
    return std::optional(NextRefusal{EventNumber{*from}, text.substr(space + 1)});
}

Status StoreDatabase::PutRefusal(Generation generation, const NextRefusal& refusal) {
    return SetMeta(RefusalKey(generation), ToString(refusal.from) + " " + refusal.why);
}

Status StoreDatabase::DropRefusal(Generation generation) {
    const StatementPtr statement = TRY(Prepare("DELETE FROM meta WHERE key=?"));
    const std::string key = RefusalKey(generation);
    Bind(statement.get(), 1, key);
    return Step(statement.get(), "dropping a refusal");
}

Status StoreDatabase::RemoveSandbox(Generation generation) {
    (void)TRY(DropRefusal(generation));
    // A generation is never used twice, also when the newest one is removed.
    const Generation last = TRY(LastGeneration());
    (void)TRY(SetMeta("last_removed", ToString(std::max(generation, last))));
    for (const std::string_view sql :
         {"DELETE FROM scripts WHERE generation=?", "DELETE FROM commands WHERE generation=?",
          "DELETE FROM sandboxes WHERE generation=?"}) {
        const StatementPtr statement = TRY(Prepare(sql));
        Bind(statement.get(), 1, Bits(Raw(generation)));
        (void)TRY(Step(statement.get(), "removing a sandbox"));
    }
    return Ok();
}

}  // namespace sbxfs
