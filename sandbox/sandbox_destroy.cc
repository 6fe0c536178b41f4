// rmdir: what it says is in the journal before it is acted on, and it goes on behind, over restarts of the daemon, until
// the provider has confirmed. Members of Sandbox, in a file of their own.
#include <errno.h>

#include <utility>

#include "sandbox/backoff.h"
#include "sandbox/cached_files.h"
#include "sandbox/sandbox.h"

namespace sbxfs {
namespace {

constexpr Duration kLongestRetry = std::chrono::seconds(60);
// How long rmdir's work behind waits for output of commands that have ended (contract 4).
constexpr Duration kFetchLimit = std::chrono::seconds(30);
constexpr Duration kFetchPoll = std::chrono::milliseconds(50);
constexpr Duration kKeepRetry = std::chrono::seconds(1);

}  // namespace

// rmdir: what it says is in the journal before it is answered or acted on. Until then everything
// goes on, so that a refusal changes nothing.
void Sandbox::AskToDestroy(Done done) {
    bool guarded = false;
    {
        const MutexLock lock(mu_);
        guarded = record_.is_protected;
    }
    if (guarded) {
        return done(Error(Errno{EBUSY}, "sandbox '" + name_ +
                                            "' is protected: `echo unprotect > ctl` in it first"));
    }
    if (destroy_running_ || stage() == Stage::kGone) return done(Ok());
    destroy_waiters_.push_back(std::move(done));
    if (destroy_waiters_.size() > 1) return;  // the journal is being asked already
    Save([self = shared_from_this()](const Status& kept) {
        self->Post([kept](Sandbox& sandbox) { sandbox.DestroyKept(kept); });
    });
}

void Sandbox::DestroyKept(const Status& kept) {
    const std::vector<Done> waiters = std::exchange(destroy_waiters_, {});
    if (kept) {
        {
            const MutexLock lock(mu_);
            record_.stage = Stage::kDestroying;
        }
        commands_->Close(Error(Errno{EHOSTDOWN}, "sandbox '" + name_ + "' is being destroyed"));
        if (!stopped_) BeginDestroy();
    } else {
        SaveAndIgnore();  // a later save may have said kDestroying, and got through
    }
    for (const Done& done : waiters)
        done(kept);
}

void Sandbox::BeginDestroy() {
    if (std::exchange(destroy_running_, true)) return;
    SetStatus(SandboxStatus::kStopping, "");
    attach_started_ = loop_.clock().Steady();
    FetchThenDestroy();
}

void Sandbox::FetchThenDestroy() {
    const bool in_time = loop_.clock().Steady() - attach_started_ < kFetchLimit;
    // What was written to a machine that stays arrives there.
    const bool pending =
        commands_->OutputPending() || (!provider_.OwnsMachine() && !cached_->behind().IsClean());
    if (attachment_ != nullptr && pending && in_time) {
        return Later(kFetchPoll, [](Sandbox& self) { self.FetchThenDestroy(); });
    }
    commands_->End("it was destroyed");
    files_->End(Error(Errno{EHOSTDOWN}, "sandbox '" + name_ + "' was destroyed"));
    cached_->SupervisorLost();
    cached_->cache().ForgetAll();
    DropAttachment();
    failures_ = 0;
    TryDestroy();
}

void Sandbox::TryDestroy() {
    if (MustDepart()) return Depart();
    std::string id;
    {
        const MutexLock lock(mu_);
        id = record_.provider_id;
    }
    provider_.Destroy(token_, id, [self = shared_from_this()](const Status& status) {
        self->Post([status](Sandbox& sandbox) { sandbox.Destroyed(status); });
    });
}

void Sandbox::Destroyed(const Status& status) {
    if (stopped_) return;
    if (status) return Confirmed();
    ++failures_;
    SetStatus(SandboxStatus::kStopping, status.error().what() + ". Trying again");
    Later(Backoff(failures_, kLongestRetry), [tried = ++destroy_try_](Sandbox& self) {
        if (self.destroy_try_ == tried) self.TryDestroy();
    });
}

void Sandbox::Confirmed() {
    {
        const MutexLock lock(mu_);
        if (record_.ended_ms == 0) {
            record_.ended_as = SandboxStatus::kStopped;
            record_.ended_ms = EpochMs(loop_.clock().System());
        }
        record_.stage = Stage::kGone;
    }
    Save([self = shared_from_this()](const Status& kept) {
        self->Post([ok = kept.has_value()](Sandbox& gone) {
            if (!ok) {
                // A next daemon would destroy it once more, harmlessly; this one tells when it is kept.
                return gone.Later(kKeepRetry, [](Sandbox& again) { again.Confirmed(); });
            }
            gone.SetStatus(gone.Snapshot().record.ended_as, gone.Snapshot().record.error);
            if (gone.on_gone_) std::exchange(gone.on_gone_, {})(gone);
        });
    });
}

}  // namespace sbxfs
