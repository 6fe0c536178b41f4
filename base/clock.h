// Time, injected so that tests hold it in their hands: steady time for waiting, system time for
// what users see. Clocks are thread-safe and outlive everything that uses them.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>

namespace sbxfs {

using SteadyTime = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;
using SystemTime = std::chrono::system_clock::time_point;

class Clock {
 public:
    Clock() = default;
    Clock(const Clock&) = delete;
    Clock& operator=(const Clock&) = delete;
    virtual ~Clock() = default;
    virtual SteadyTime Steady() const = 0;
    virtual SystemTime System() const = 0;
};

// The machine's clocks.
Clock& RealClock();

// A clock that moves when told to.
class ManualClock final : public Clock {
 public:
    SteadyTime Steady() const override { return SteadyTime(Duration(now_.load())); }
    SystemTime System() const override {
        return SystemTime(std::chrono::duration_cast<SystemTime::duration>(Duration(now_.load())));
    }
    void Advance(Duration by) { now_ += by.count(); }

 private:
    std::atomic<Duration::rep> now_{Duration(std::chrono::hours(24 * 365)).count()};
};

// Milliseconds since the epoch, as JSON fields named *_ms carry them.
std::int64_t EpochMs(SystemTime time);
SystemTime FromEpochMs(std::int64_t ms);
// "2026-01-31T23:59:59.123Z" (RFC 3339, UTC, milliseconds).
std::string Rfc3339(SystemTime time);

}  // namespace sbxfs
