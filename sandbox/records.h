// What the journal keeps of a sandbox and of a command: plain rows, written by sandbox.cc and
// commands.cc, read back once at start. The words of contract 2 and 4 for their states are here
// too. Values; no thread rules.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "sandbox/names.h"
#include "sandbox/output_holes.h"
#include "sandbox/provider.h"
#include "sandbox/sandbox_config.h"
#include "sandbox/template.h"

namespace sbxfs {

// How far a sandbox has come, as far as it must be known after a crash.
enum class Stage : int {
    kLaunching = 1,   // the intent is kept; the provider may or may not have been asked
    kLaunched = 2,    // the provider said where it is
    kEnded = 3,       // failed, expired or lost; the directory stays until rmdir
    kDestroying = 4,  // rmdir was answered; the provider has not confirmed yet
    kGone = 5,        // confirmed; kept for .mount/history
    kStopping = 6,    // `stop` was answered; the provider has not confirmed yet
    kStopped = 7,     // nothing runs, the files stay; `error` says why the last start failed
    kStarting = 8,    // `start` was answered; the provider may or may not have been asked
};

// What `status` shows (contract 2).
enum class SandboxStatus {
    kLaunching,
    kReady,
    kUnreachable,
    kExpiring,
    kStopping,
    kStopped,
    kFailed,
    kExpired,
    kLost,
};
std::string_view ToString(SandboxStatus status);
std::optional<SandboxStatus> ParseSandboxStatus(std::string_view text);
// Ended: nothing runs there and nothing will (EHOSTDOWN).
bool HasEnded(SandboxStatus status);
// Up: it can be used at once (ready, expiring).
bool IsUp(SandboxStatus status);

// What may follow what. Nothing else ever happens to a status: debug builds abort, and tests walk every one of these.
using SandboxEdge = std::pair<SandboxStatus, SandboxStatus>;
std::span<const SandboxEdge> SandboxEdges();
bool MayFollow(SandboxStatus from, SandboxStatus to);

struct SandboxRecord {
    Generation generation{};
    std::string name;
    Template what;
    SandboxConfig config;
    Stage stage = Stage::kLaunching;
    SshKeyPair client_key;
    SshKeyPair host_key;
    std::string provider_id;
    std::optional<ConnectInfo> connect;
    Json facts = Json::Object();                               // what the provider said of it
    SandboxStatus ended_as = SandboxStatus::kFailed;           // with kEnded and later
    std::string error;                                         // why, with a remedy
    std::vector<std::pair<std::string, std::int64_t>> phases;  // name, epoch ms, in order
    std::uint64_t spool_id = 0;  // of the supervisor last attached to; 0: never attached
    std::uint64_t boot_id = 0;   // of the kernel it ran on
    bool is_protected = false;   // `protect` was written to ctl: rmdir is EBUSY
    std::int64_t created_ms = 0;
    std::int64_t ended_ms = 0;
    // When it ends itself, as `ttl` has it by now: the template's to begin with. 0: never.
    std::int64_t lifetime_end_ms = 0;
    std::int64_t idle_timeout_s = 0;
    std::int64_t times_set_ms = 0;  // by a write to ttl; 0: by the launch
};
// What a new sandbox begins with.
void SetFirstTimes(SandboxRecord& record);

// The first command from this number on is refused: a change of a file before it may or may not have been made.
struct NextRefusal {
    EventNumber from{};
    std::string why;
};

enum class EventStatus : int {
    kQueued = 1,
    kRunning = 2,
    kExited = 3,
    kTimedOut = 4,
    kKilled = 5,
    kLost = 6,
    kRefused = 7,
};
std::string_view ToString(EventStatus status);
bool IsFinished(EventStatus status);

// What may follow what, as for sandboxes. A command whose start nobody has told of yet may turn out to have ended.
using EventEdge = std::pair<EventStatus, EventStatus>;
std::span<const EventEdge> EventEdges();
bool MayFollow(EventStatus from, EventStatus to);

enum class CommandLane : int { kSerial = 0, kParallel = 1 };

// What the user asked for. The script is kept apart: it may be 1 MiB and is only read back on
// demand.
struct CommandSpec {
    std::string name;  // of run/NAME or cmd.json's id; empty: only a number
    CommandLane lane = CommandLane::kSerial;
    std::string cwd;    // empty: config/cwd
    std::string shell;  // empty: config/shell
    std::string user;   // empty: config/user
    bool login_shell = false;
    std::int64_t timeout_ms = 0;  // 0: none
    std::map<std::string, std::string> env;
};

// Where a command stands. The part of its record that changes.
struct EventState {
    EventStatus status = EventStatus::kQueued;
    std::optional<int> exit_code;  // 0-255; absent until known, and for lost and refused
    int signal = 0;                // the signal that ended it, 0 when none did
    std::int64_t started_ms = 0;   // the sandbox's clock, as epoch ms; 0: not started
    std::int64_t finished_ms = 0;
    std::int64_t duration_us = 0;
    std::uint64_t stdout_size = 0;  // at its end
    std::uint64_t stderr_size = 0;
    bool shell_restarted = false;
    std::string reason;        // why the shell restarted, why it was refused or lost
    OutputHoles stdout_holes;  // what is not kept of its output
    OutputHoles stderr_holes;
    std::uint64_t finish_order = 0;  // its place in events/log.jsonl, from 1; 0: not finished
};

struct CommandRecord {
    Generation generation{};
    EventNumber n{};
    CommandSpec spec;
    std::uint64_t script_size = 0;
    std::int64_t accepted_ms = 0;
    bool forgotten = false;  // by rmdir events/N; only the number and the name are still used
    // The first change of a file that was made before it and that the sandbox had not acknowledged; empty: there is
    // none, or all have been since. It is not sent before.
    std::string unarrived;
    EventState state;
};

}  // namespace sbxfs
