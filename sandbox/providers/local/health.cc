#include "sandbox/providers/local/health.h"

#include <errno.h>

#include <cstdint>
#include <optional>

#include "base/strings.h"
#include "sandbox/providers/local/box.h"
#include "sandbox/providers/local/cgroups.h"

namespace sbxfs {
namespace {

std::int64_t MemoryKills(const Box& box) {
    std::int64_t kills = 0;
    for (const std::string& directory : Split(Trim(box.Read("cgroups").value_or("")), '\n')) {
        if (!directory.empty()) kills += OutOfMemoryKills(directory);
    }
    return kills;
}

}  // namespace

Health HealthOf(const std::string& state_dir, const std::string& token) {
    const auto box = Box::Open(state_dir, token);
    if (!box) {
        if (box.error().code() == Errno{ENOENT}) {
            return {Liveness::kVanished,
                    "nothing of it is in the state directory any more: somebody removed it there. "
                    "Remove it with rmdir and make a new one"};
        }
        return {Liveness::kUnknown, box.error().what()};
    }
    if (box->IsDestroyed()) return {Liveness::kEnded, "it is being destroyed"};
    if (box->IsAlive()) return {Liveness::kAlive, ""};
    if (!box->Has("launched.json")) {
        return {Liveness::kEnded,
                "its launch did not come to an end; launch it again or destroy it"};
    }
    const auto note = box->Read("note").value_or("");
    const auto init = box->Init();
    if (Trim(note).empty() && init && init->boot != BootId()) {
        return {Liveness::kEnded, "the machine was restarted; destroy it and make another"};
    }
    Health health = HealthFromNote(note);
    const std::int64_t kills = health.liveness == Liveness::kEnded ? MemoryKills(*box) : 0;
    if (kills > 0) {
        health.why += "; the kernel killed " + std::to_string(kills) +
                      " of its processes for want of memory: give the template more `memory`";
    }
    return health;
}

Health HealthFromNote(std::string_view note) {
    const std::string_view line = Trim(note.substr(0, note.find('\n')));
    if (line == "expired lifetime") {
        return {Liveness::kExpired,
                "its max_lifetime was over; a longer one can be set in the template"};
    }
    if (line == "expired idle") {
        return {Liveness::kExpired,
                "nobody used it for its idle_timeout; a longer one can be set in the template"};
    }
    if (line.starts_with("expired")) return {Liveness::kExpired, Printable(line, 200)};
    if (line.starts_with("stopped"))
        return {Liveness::kEnded, "it was stopped from inside or by a signal to its init"};
    if (line.empty()) return {Liveness::kEnded, "its first process was killed"};
    return {Liveness::kEnded, "its first process ended: " + Printable(line, 200)};
}

}  // namespace sbxfs
