#include "sandbox/supervisor/timers.h"

namespace sbxfs::supervisor {
namespace {

// Ten thousand years: nothing that is added to it overflows.
constexpr uint64_t kLongest = uint64_t{1} << 48;

int64_t Bounded(uint64_t ms) {
    return static_cast<int64_t>(ms < kLongest ? ms : kLongest);
}

}  // namespace

void Timers::Set(int64_t now_ms, uint64_t lifetime_ms, uint64_t idle_ms, TimerAction action) {
    lifetime_end_ms_ = lifetime_ms == 0 ? kNever : now_ms + Bounded(lifetime_ms);
    // A daemon that attaches again sets it again, which is nobody's use.
    if (idle_ms_ == kNever) idle_since_ms_ = now_ms;
    idle_ms_ = idle_ms == 0 ? kNever : Bounded(idle_ms);
    action_ = action;
}

uint64_t Timers::LifetimeLeft(int64_t now_ms) const {
    if (lifetime_end_ms_ == kNever) return 0;
    return lifetime_end_ms_ > now_ms ? static_cast<uint64_t>(lifetime_end_ms_ - now_ms) : 1;
}

uint64_t Timers::IdleLeft(int64_t now_ms) const {
    if (idle_ms_ == kNever) return 0;
    const int64_t left = idle_since_ms_ + idle_ms_ - now_ms;
    return left > 0 ? static_cast<uint64_t>(left) : 1;
}

Timers::Due Timers::Check(int64_t now_ms, bool busy) {
    if (busy) idle_since_ms_ = now_ms;
    if (now_ms >= lifetime_end_ms_) {
        lifetime_end_ms_ = idle_ms_ = kNever;
        return Due::kLifetime;
    }
    if (idle_ms_ != kNever && now_ms >= idle_since_ms_ + idle_ms_) {
        lifetime_end_ms_ = idle_ms_ = kNever;
        return Due::kIdle;
    }
    return Due::kNothing;
}

int64_t Timers::NextTick(bool busy) const {
    if (busy || idle_ms_ == kNever) return lifetime_end_ms_;
    return Sooner(lifetime_end_ms_, idle_since_ms_ + idle_ms_);
}

}  // namespace sbxfs::supervisor
