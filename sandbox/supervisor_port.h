// How the daemon speaks with the supervisor of one attached sandbox, as an interface: real
// SupervisorClient, fake FakeSupervisor in tests/fakes. Everything happens on the sandbox's loop.
// What the supervisor says is hostile input: events about commands nobody started are legal to
// deliver and must be ignored by the listener.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_function.h"
#include "sandbox/file_bytes.h"
#include "sandbox/file_identity.h"
#include "sandbox/names.h"
#include "sandbox/outputs.h"

namespace sbxfs {

struct SupervisorHello {
    std::uint64_t spool_id = 0;  // another number: another, empty spool
    std::uint64_t boot_id = 0;   // another number: the machine there was restarted meanwhile
    std::int64_t clock_ms = 0;   // the sandbox's wall clock
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::string machine;
    std::string build;
    std::string home;
    std::string shell;
    bool fetches = false;  // an older one does not know Fetch()
    bool stores = false;   // an older one does not know Store()
};

struct StartRequest {
    EventNumber n{};
    bool parallel = false;
    bool login_shell = false;
    std::int64_t timeout_ms = 0;
    std::uint64_t output_limit = 0;
    std::string shell;
    std::string cwd;
    std::string user;
    std::string script;
    std::map<std::string, std::string> env;
};

enum class CommandOutcome { kExited, kSignaled, kTimedOut, kLost, kNotStarted };

struct CommandEnd {
    CommandOutcome outcome = CommandOutcome::kExited;
    int code = 0;  // exit status, signal or errno, as protocol.h says
    OutputSizes sizes;
    std::int64_t started_ms = 0;
    std::int64_t finished_ms = 0;
    std::int64_t duration_us = 0;
    bool shell_restarted = false;
    std::uint32_t others = 0;
    std::string reason;
    std::string cwd;
};

// A file as it was found, and its bytes if they were wanted and it stayed as it was.
struct FetchedFile {
    IdentityStat identity;
    std::optional<std::string> bytes;
};

// One new file, made with all its bytes.
struct StoreRequest {
    std::string path;
    std::uint32_t mode = 0644;               // exactly
    bool sync = false;                       // answered when it is on the disk
    std::optional<std::int64_t> atime = {};  // with mtime, in seconds
    std::optional<std::int64_t> mtime = {};
    FileBytes bytes = {};  // at most supervisor::kMaxStored
};

struct StoredFile {
    int error = 0;          // errno of what failed first
    bool made = false;      // it is there, by this request, and stays as far as it came
    IdentityStat identity;  // of what is there, if made
};

struct RenameRequest {
    std::string from;
    std::string to;
    bool replace = true;  // what is at `to`; else EEXIST
};

class SupervisorListener {
 public:
    SupervisorListener() = default;
    SupervisorListener(const SupervisorListener&) = delete;
    SupervisorListener& operator=(const SupervisorListener&) = delete;
    virtual ~SupervisorListener() = default;

    // One per command in the spool after each attach, each followed by its OnStarted or OnDone,
    // then OnKnownEnd.
    virtual void OnKnown(EventNumber n, bool done, OutputSizes sizes) = 0;
    virtual void OnKnownEnd() = 0;
    virtual void OnStarted(EventNumber n, std::int64_t started_ms) = 0;
    virtual void OnOutput(EventNumber n, OutputStream stream, std::uint64_t offset,
                          std::string bytes) = 0;
    virtual void OnHole(EventNumber n, OutputStream stream, std::uint64_t offset,
                        std::uint64_t length) = 0;
    virtual void OnDone(EventNumber n, const CommandEnd& end) = 0;
    // A Start or Signal the supervisor refused.
    virtual void OnCommandError(EventNumber n, const Error& error) = 0;
};

struct RemoteProcess {
    std::uint32_t pid = 0;
    std::uint32_t parent = 0;
    std::string name;
};

struct TimerState {
    std::int64_t lifetime_left_ms = 0;  // 0: no limit
    std::int64_t idle_left_ms = 0;
};

// What the supervisor does when a dead-man timer runs out (protocol.h, kTimer).
enum class ExpiryAction { kEndCommands = 0, kEndSandbox = 1, kPowerOff = 2 };

class SupervisorPort {
 public:
    SupervisorPort() = default;
    SupervisorPort(const SupervisorPort&) = delete;
    SupervisorPort& operator=(const SupervisorPort&) = delete;
    virtual ~SupervisorPort() = default;

    virtual void Start(const StartRequest& request) = 0;
    // Push both streams of a command from these offsets on.
    virtual void Read(EventNumber n, OutputSizes from) = 0;
    virtual void Credit(std::uint32_t bytes) = 0;
    virtual void Signal(EventNumber n, int signal) = 0;
    virtual void Forget(EventNumber n) = 0;
    virtual void Use() = 0;

    // Callbacks run once, on the loop; with EHOSTUNREACH when the link is lost first.
    virtual void StatBatch(const std::vector<std::string>& paths,
                           UniqueFunction<void(Result<std::vector<IdentityStat>>)> done) = 0;
    // As StatBatch, with the bytes of regular files of 1 to `most` bytes. Only where the hello says so.
    virtual void Fetch(const std::vector<std::string>& paths, std::uint32_t most,
                       UniqueFunction<void(Result<std::vector<FetchedFile>>)> done) = 0;
    // What is there already stays: EEXIST. Only where the hello says so.
    virtual void Store(const StoreRequest& request,
                       UniqueFunction<void(Result<StoredFile>)> done) = 0;
    // rename(2), in order with Store(): an errno or 0. Only where that is offered.
    virtual void Rename(const RenameRequest& request, UniqueFunction<void(Result<int>)> done) = 0;
    virtual void Processes(UniqueFunction<void(Result<std::vector<RemoteProcess>>)> done) = 0;
    virtual void Environment(UniqueFunction<void(Result<std::vector<std::string>>)> done) = 0;
    virtual void SetTimer(std::int64_t lifetime_ms, std::int64_t idle_ms, ExpiryAction action,
                          UniqueFunction<void(Result<TimerState>)> done) = 0;
    virtual void Ping(Done done) = 0;
    // Kills every command; with `clear_spool` nothing of ours is left behind.
    virtual void Shutdown(bool clear_spool, Done done) = 0;
};

}  // namespace sbxfs
