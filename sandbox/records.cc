#include "sandbox/records.h"

#include <algorithm>
#include <array>

namespace sbxfs {
namespace {

constexpr std::array kSandboxWords = {
    std::pair{SandboxStatus::kLaunching, std::string_view("launching")},
    std::pair{SandboxStatus::kReady, std::string_view("ready")},
    std::pair{SandboxStatus::kUnreachable, std::string_view("unreachable")},
    std::pair{SandboxStatus::kExpiring, std::string_view("expiring")},
    std::pair{SandboxStatus::kStopping, std::string_view("stopping")},
    std::pair{SandboxStatus::kStopped, std::string_view("stopped")},
    std::pair{SandboxStatus::kFailed, std::string_view("failed")},
    std::pair{SandboxStatus::kExpired, std::string_view("expired")},
    std::pair{SandboxStatus::kLost, std::string_view("lost")},
};

using Box = SandboxStatus;
constexpr std::array<SandboxEdge, 26> kSandboxEdges = {{
    {Box::kLaunching, Box::kReady},
    {Box::kLaunching, Box::kFailed},
    {Box::kLaunching, Box::kExpired},  // before it could be reached
    {Box::kLaunching, Box::kLost},
    {Box::kReady, Box::kExpiring},
    {Box::kExpiring, Box::kReady},
    {Box::kReady, Box::kUnreachable},
    {Box::kExpiring, Box::kUnreachable},
    {Box::kUnreachable, Box::kReady},
    {Box::kUnreachable, Box::kFailed},
    {Box::kUnreachable, Box::kExpired},
    {Box::kUnreachable, Box::kLost},  // its provider knows nothing of it any more
    // `start`, and where that failed.
    {Box::kStopped, Box::kLaunching},
    {Box::kLaunching, Box::kStopped},
    // rmdir, whatever it is; `stop` of what has not ended.
    {Box::kStopped, Box::kStopping},
    {Box::kLaunching, Box::kStopping},
    {Box::kReady, Box::kStopping},
    {Box::kExpiring, Box::kStopping},
    {Box::kUnreachable, Box::kStopping},
    {Box::kFailed, Box::kStopping},
    {Box::kExpired, Box::kStopping},
    {Box::kLost, Box::kStopping},
    // Confirmed; after rmdir, how it ended before that stays known.
    {Box::kStopping, Box::kStopped},
    {Box::kStopping, Box::kFailed},
    {Box::kStopping, Box::kExpired},
    {Box::kStopping, Box::kLost},
}};

using Event = EventStatus;
constexpr std::array<EventEdge, 11> kEventEdges = {{
    {Event::kQueued, Event::kRunning},
    {Event::kQueued, Event::kExited},
    {Event::kQueued, Event::kTimedOut},
    {Event::kQueued, Event::kKilled},
    {Event::kQueued, Event::kLost},     // an earlier daemon may have started it
    {Event::kQueued, Event::kRefused},  // cancelled, or its sandbox has ended
    {Event::kRunning, Event::kExited},
    {Event::kRunning, Event::kTimedOut},
    {Event::kRunning, Event::kKilled},
    {Event::kRunning, Event::kLost},
    {Event::kRunning,
     Event::kRefused},  // taken over from the sandbox's queue, and not started there
}};

}  // namespace

std::span<const SandboxEdge> SandboxEdges() {
    return kSandboxEdges;
}

bool MayFollow(SandboxStatus from, SandboxStatus to) {
    return std::find(kSandboxEdges.begin(), kSandboxEdges.end(), SandboxEdge{from, to}) !=
           kSandboxEdges.end();
}

std::span<const EventEdge> EventEdges() {
    return kEventEdges;
}

bool MayFollow(EventStatus from, EventStatus to) {
    return std::find(kEventEdges.begin(), kEventEdges.end(), EventEdge{from, to}) !=
           kEventEdges.end();
}

std::string_view ToString(SandboxStatus status) {
    for (const auto& [value, word] : kSandboxWords) {
        if (value == status) return word;
    }
    return "unknown";
}

std::optional<SandboxStatus> ParseSandboxStatus(std::string_view text) {
    for (const auto& [value, word] : kSandboxWords) {
        if (word == text) return value;
    }
    return std::nullopt;
}

bool HasEnded(SandboxStatus status) {
    switch (status) {
        case SandboxStatus::kStopped:
        case SandboxStatus::kFailed:
        case SandboxStatus::kExpired:
        case SandboxStatus::kLost:
            return true;
        case SandboxStatus::kLaunching:
        case SandboxStatus::kReady:
        case SandboxStatus::kUnreachable:
        case SandboxStatus::kExpiring:
        case SandboxStatus::kStopping:
            return false;
    }
    return true;
}

bool IsUp(SandboxStatus status) {
    return status == SandboxStatus::kReady || status == SandboxStatus::kExpiring;
}

void SetFirstTimes(SandboxRecord& record) {
    const Template& what = record.what;
    record.lifetime_end_ms =
        what.max_lifetime_s == 0 ? 0 : record.created_ms + what.max_lifetime_s * 1000;
    record.idle_timeout_s = what.idle_timeout_s;
}

std::string_view ToString(EventStatus status) {
    switch (status) {
        case EventStatus::kQueued:
            return "queued";
        case EventStatus::kRunning:
            return "running";
        case EventStatus::kExited:
            return "exited";
        case EventStatus::kTimedOut:
            return "timed_out";
        case EventStatus::kKilled:
            return "killed";
        case EventStatus::kLost:
            return "lost";
        case EventStatus::kRefused:
            return "refused";
    }
    return "unknown";
}

bool IsFinished(EventStatus status) {
    return status != EventStatus::kQueued && status != EventStatus::kRunning;
}

}  // namespace sbxfs
