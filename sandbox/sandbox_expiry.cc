// When a sandbox ends itself (contract 8, ttl): at the end of its lifetime, or when nobody has used it for long
// enough, whichever is first. The timer is the supervisor's own, so that it ends also when no daemon comes back;
// here is what it is set to, what of its use it has to be told, and when the status is `expiring`. Members of
// Sandbox, in a file of their own.
#include <errno.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/strings.h"
#include "sandbox/sandbox.h"

namespace sbxfs {
namespace {

// The idle clock hears of use at most this often, and no later than a tenth of itself.
constexpr Duration kTellUse = std::chrono::seconds(10);
// `expiring` is the last minute, or the last tenth of a shorter limit.
constexpr std::int64_t kExpiringMs = 60'000;

std::int64_t Ms(Duration duration) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

Error LinkDown(const std::string& name, SandboxStatus status, const std::string& why) {
    const bool launching = status == SandboxStatus::kLaunching;
    return {Errno{EHOSTUNREACH},
            "sandbox '" + name + "' " +
                (launching ? "is still launching (cat ready waits for it)"
                           : "cannot be told now" + (why.empty() ? "" : ": " + why)) +
                "; its ttl is what it was. Try again when status is ready",
            Blame::kRemote};
}

}  // namespace

std::optional<std::int64_t> Sandbox::TimeLeftMs() const {
    if (!provider_.OwnsMachine()) return std::nullopt;  // nothing there ends
    const std::int64_t now = EpochMs(loop_.clock().System());
    const SteadyTime steady = loop_.clock().Steady();
    const bool busy = commands_->AnyRunning();
    const MutexLock lock(mu_);
    std::optional<std::int64_t> left;
    if (record_.lifetime_end_ms != 0) left = record_.lifetime_end_ms - now;
    if (record_.idle_timeout_s != 0) {
        const std::int64_t idle = busy ? 0 : Ms(steady - last_use_);
        const std::int64_t until = record_.idle_timeout_s * 1000 - idle;
        left = std::min(left.value_or(until), until);
    }
    return left ? std::optional(std::max<std::int64_t>(*left, 0)) : std::nullopt;
}

std::int64_t Sandbox::TimesSetMs() const {
    const MutexLock lock(mu_);
    return record_.times_set_ms == 0 ? created_ms_ : record_.times_set_ms;
}

void Sandbox::SetTimer() {
    std::int64_t lifetime_ms = 0;
    std::int64_t idle_ms = 0;
    {
        const MutexLock lock(mu_);
        if (record_.lifetime_end_ms != 0) {
            lifetime_ms = std::max<std::int64_t>(
                record_.lifetime_end_ms - EpochMs(loop_.clock().System()), 1);
        }
        idle_ms = record_.idle_timeout_s * 1000;
    }
    if (lifetime_ms == 0 && idle_ms == 0) return;
    port_->SetTimer(lifetime_ms, idle_ms, provider_.OnExpiry(),
                    [weak = weak_from_this()](const Result<TimerState>& state) {
                        const auto self = weak.lock();
                        if (self == nullptr) return;
                        if (state) return self->TimerIs(*state);
                        // With the link gone the next attach sets it again, if there is to be one.
                        if (state.error().code() == Errno{EHOSTUNREACH}) return;
                        Log(LogLevel::kWarning, "timer not set",
                            {{"box", self->name_}, {"why", state.error()}});
                    });
    if (use_untold_) TellUse();
}

// What another daemon, or this one before the link was cut, did not see: how long it has been idle there.
void Sandbox::TimerIs(const TimerState& state) {
    {
        const MutexLock lock(mu_);
        const std::int64_t idle_ms = record_.idle_timeout_s * 1000;
        if (idle_ms != 0 && state.idle_left_ms != 0) {
            const std::int64_t idle =
                std::clamp<std::int64_t>(idle_ms - state.idle_left_ms, 0, idle_ms);
            const SteadyTime since = loop_.clock().Steady() - std::chrono::milliseconds(idle);
            const bool known = attached_before_ || use_told_ != SteadyTime{};
            last_use_ = known ? std::max(last_use_, since) : since;
        }
        attached_before_ = true;
    }
    UpdateExpiring();
}

// --- use ---

void Sandbox::Used() {
    {
        const MutexLock lock(mu_);
        if (record_.idle_timeout_s == 0) return;
        last_use_ = loop_.clock().Steady();
        if (std::exchange(use_pending_, true)) return;
    }
    Post([](Sandbox& self) { self.TellUseInTime(); });
}

// The supervisor sees commands itself.
void Sandbox::CommandMoved() {
    {
        const MutexLock lock(mu_);
        if (record_.idle_timeout_s == 0) return;
        last_use_ = loop_.clock().Steady();
    }
    UpdateExpiring();
}

void Sandbox::TellUseInTime() {
    Duration pause = kTellUse;
    {
        const MutexLock lock(mu_);
        pause = std::min<Duration>(pause, std::chrono::milliseconds(record_.idle_timeout_s * 100));
    }
    const SteadyTime now = loop_.clock().Steady();
    if (use_told_ != SteadyTime{} && now < use_told_ + pause) {
        // The newest use of a burst is told at its end: the clock there then starts late, never early.
        return Later(use_told_ + pause - now, [](Sandbox& self) { self.TellUse(); });
    }
    TellUse();
}

void Sandbox::TellUse() {
    {
        const MutexLock lock(mu_);
        use_pending_ = false;
    }
    use_untold_ = port_ == nullptr;
    if (!use_untold_) {
        port_->Use();
        use_told_ = loop_.clock().Steady();
    }
    UpdateExpiring();
}

// --- ttl ---

void Sandbox::SetTtl(TtlChange change, Done done) {
    Post([change, done = std::move(done)](Sandbox& self) mutable {
        self.ttl_waiting_.emplace_back(change, std::move(done));
        if (self.ttl_waiting_.size() == 1) self.NextTtl();
    });
}

// One after the other: each counts from what the one before has left.
void Sandbox::NextTtl() {
    if (ttl_waiting_.empty()) return;
    const Result<Times> times = TimesAfter(ttl_waiting_.front().first);
    if (!times) return TtlDone(times.error());
    const std::int64_t now = EpochMs(loop_.clock().System());
    const std::uint64_t mine = ++ttl_turn_;
    Later(services_.timeouts.operation, [mine](Sandbox& self) {
        if (self.ttl_turn_ != mine) return;
        self.TtlDone(
            Error(Errno{ETIMEDOUT},
                  "sandbox '" + self.name_ +
                      "' did not answer in time; its ttl is what it was. Try again, and see "
                      "whether its status is ready",
                  Blame::kRemote));
    });
    // The timer first: were it the journal, what was refused for want of a link would come true at the next attach.
    port_->SetTimer(
        times->lifetime_end_ms == 0 ? 0 : std::max<std::int64_t>(times->lifetime_end_ms - now, 1),
        times->idle_timeout_s * 1000, provider_.OnExpiry(),
        [weak = weak_from_this(), times = *times, mine](const Result<TimerState>& state) {
            const auto self = weak.lock();
            if (self == nullptr) return;
            if (self->ttl_turn_ != mine) {
                // Whoever wrote it was told that it is not so.
                if (state && self->port_ != nullptr && self->ttl_waiting_.empty()) self->SetTimer();
                return;
            }
            if (state) {
                ++self->ttl_turn_;
                return self->KeepTimes(times);
            }
            self->Post([why = state.error(), mine](Sandbox& sandbox) {
                if (sandbox.ttl_turn_ != mine) return;
                sandbox.TtlDone(LinkDown(sandbox.name_, SandboxStatus::kUnreachable, why.what()));
            });
        });
}

Result<Sandbox::Times> Sandbox::TimesAfter(TtlChange change) const {
    if (!provider_.OwnsMachine()) {
        return Error(Errno{EOPNOTSUPP},
                     "the machine of sandbox '" + name_ +
                         "' was there before and stays: nothing of it ends by itself");
    }
    if (const auto closed = commands_->Closed()) return *closed;
    const SandboxSnapshot now = Snapshot();
    if (port_ == nullptr) return LinkDown(name_, now.status, now.error);
    const std::optional<std::int64_t> left = TimeLeftMs();
    if (change.add && !left) {
        return Error(Errno{EINVAL}, "sandbox '" + name_ +
                                        "' has no limit that could be extended: write a number of "
                                        "seconds without + to set one");
    }
    const std::int64_t wanted = change.seconds * 1000 + (change.add ? *left : 0);
    if (wanted <= 0) {
        return Error(Errno{EINVAL},
                     "ttl must be at least 1 second; to end the sandbox now, use rmdir");
    }
    const std::int64_t now_ms = EpochMs(loop_.clock().System());
    const std::int64_t last_ms = created_ms_ + template_.max_lifetime_s * 1000;
    Times times{now_ms + wanted, now.record.idle_timeout_s, 0};
    if (template_.max_lifetime_s != 0)
        times.lifetime_end_ms = std::min(times.lifetime_end_ms, last_ms);
    // More is never less: only the idle time may have been short, or there may be no end at all.
    const std::int64_t end_ms = now.record.lifetime_end_ms;
    if (change.add)
        times.lifetime_end_ms = end_ms == 0 ? 0 : std::max(end_ms, times.lifetime_end_ms);
    if (times.idle_timeout_s != 0)
        times.idle_timeout_s = std::max(times.idle_timeout_s, (wanted + 999) / 1000);
    const bool at_the_end = end_ms != 0 && end_ms - now_ms <= *left;
    if (change.add && change.seconds > 0 && at_the_end && times.lifetime_end_ms == end_ms) {
        return Error(Errno{EINVAL}, "sandbox '" + name_ + "' ends at " +
                                        Rfc3339(FromEpochMs(end_ms)) +
                                        ", with the max_lifetime of its template, and cannot live "
                                        "longer: copy what you need out of it before");
    }
    return times;
}

void Sandbox::KeepTimes(const Times& times) {
    Times before;
    {
        const MutexLock lock(mu_);
        before.lifetime_end_ms = std::exchange(record_.lifetime_end_ms, times.lifetime_end_ms);
        before.idle_timeout_s = std::exchange(record_.idle_timeout_s, times.idle_timeout_s);
        before.set_ms = std::exchange(record_.times_set_ms, EpochMs(loop_.clock().System()));
        last_use_ = loop_.clock().Steady();
    }
    TellUse();
    Save([self = shared_from_this(), before](const Status& kept) {
        self->Post([kept, before](Sandbox& sandbox) {
            if (!kept) {
                {
                    const MutexLock lock(sandbox.mu_);
                    sandbox.record_.lifetime_end_ms = before.lifetime_end_ms;
                    sandbox.record_.idle_timeout_s = before.idle_timeout_s;
                    sandbox.record_.times_set_ms = before.set_ms;
                }
                if (sandbox.port_ != nullptr) sandbox.SetTimer();
            }
            sandbox.TtlDone(kept);
        });
    });
}

void Sandbox::TtlDone(const Status& status) {
    CHECK(!ttl_waiting_.empty());
    ++ttl_turn_;
    const Done done = std::move(ttl_waiting_.front().second);
    ttl_waiting_.pop_front();
    UpdateExpiring();
    done(status);
    NextTtl();
}

// --- the status ---

void Sandbox::UpdateExpiring() {
    DCHECK(loop_.OnThread());
    const SandboxStatus status = this->status();
    if (!IsUp(status) || destroy_running_ || stopped_) return;
    const std::optional<std::int64_t> left = TimeLeftMs();
    if (!left) {
        if (status == SandboxStatus::kExpiring) SetStatus(SandboxStatus::kReady, "");
        return;
    }
    std::int64_t limit_ms = 0;  // the shorter one: a tenth of it is soon
    bool final = false;         // it ends with its max_lifetime, whoever uses it
    const std::int64_t now_ms = EpochMs(loop_.clock().System());
    {
        const MutexLock lock(mu_);
        const std::int64_t lifetime_ms = record_.lifetime_end_ms - created_ms_;
        const std::int64_t idle_ms = record_.idle_timeout_s * 1000;
        limit_ms = record_.lifetime_end_ms == 0 ? idle_ms
                   : idle_ms == 0               ? lifetime_ms
                                                : std::min(lifetime_ms, idle_ms);
        final = template_.max_lifetime_s != 0 && record_.lifetime_end_ms - now_ms <= *left &&
                record_.lifetime_end_ms >= created_ms_ + template_.max_lifetime_s * 1000;
    }
    const std::int64_t soon_ms = std::min(kExpiringMs, limit_ms / 10);
    if (*left <= soon_ms && status == SandboxStatus::kReady) {
        SetStatus(SandboxStatus::kExpiring,
                  "it ends itself in less than " + std::to_string(soon_ms / 1000 + 1) + " s: " +
                      (final ? "its max_lifetime is over, copy what you need out of it"
                             : "use it, or `echo +3600 > ttl` in it"));
    } else if (*left > soon_ms && status == SandboxStatus::kExpiring) {
        SetStatus(SandboxStatus::kReady, "");
    }
    if (*left <= soon_ms) return;  // use and ttl come here by themselves
    // A look that turns out to be too early arms the next one: armed anew by each use, one would be left for each
    // until the idle time is over.
    const Duration pause = std::chrono::milliseconds(*left - soon_ms);
    const SteadyTime due = loop_.clock().Steady() + pause;
    if (expiry_look_ && *expiry_look_ <= due) return;
    expiry_look_ = due;
    Later(pause, [due](Sandbox& self) {
        if (self.expiry_look_ != due) return;
        self.expiry_look_.reset();
        self.UpdateExpiring();
    });
}

}  // namespace sbxfs
