#include "sandbox/records.h"

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

}  // namespace

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
