#include "base/clock.h"

#include <time.h>

#include <algorithm>
#include <array>
#include <cstdio>

namespace sbxfs {
namespace {

class MachineClock final : public Clock {
 public:
    SteadyTime Steady() const override { return std::chrono::steady_clock::now(); }
    SystemTime System() const override { return std::chrono::system_clock::now(); }
};

}  // namespace

Clock& RealClock() {
    static MachineClock clock;
    return clock;
}

std::int64_t EpochMs(SystemTime time) {
    return std::chrono::floor<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

SystemTime FromEpochMs(std::int64_t ms) {
    // The clock's nanoseconds end in 1677 and in 2262; times that others tell need not.
    constexpr std::int64_t kMost =
        std::chrono::duration_cast<std::chrono::milliseconds>(SystemTime::duration::max()).count();
    return SystemTime(std::chrono::milliseconds(std::clamp(ms, -kMost, kMost)));
}

std::string Rfc3339(SystemTime time) {
    const std::int64_t ms = EpochMs(time);
    const auto seconds = static_cast<time_t>(ms >= 0 ? ms / 1000 : (ms - 999) / 1000);
    struct tm parts {};
    (void)gmtime_r(&seconds, &parts);
    std::array<char, 64> text{};
    const int length = std::snprintf(
        text.data(), text.size(), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", parts.tm_year + 1900,
        parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
        static_cast<int>(ms - std::int64_t{seconds} * 1000));
    return {text.data(), static_cast<std::size_t>(length)};
}

}  // namespace sbxfs
