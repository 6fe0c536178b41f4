// `stop` and `start` of a sandbox's ctl: nothing runs in a stopped one, its files, name, generation and numbers stay.
// Each step is in the journal before it is acted on, so a new daemon goes on with it. Members of Sandbox, in a file
// of their own.
#include <errno.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "sandbox/cached_files.h"
#include "sandbox/sandbox.h"

namespace sbxfs {
namespace {

constexpr Duration kFetchLimit = std::chrono::seconds(5);
constexpr Duration kFetchPoll = std::chrono::milliseconds(50);
constexpr Duration kStopRetry = std::chrono::seconds(1);
constexpr char kStoppedPhase[] = "stopped";

}  // namespace

Error StoppedError(const std::string& name) {
    return {Errno{EHOSTDOWN},
            "sandbox '" + name +
                "' is stopped: `echo start > ctl` in it starts it again, with its files",
            Blame::kCaller};
}

bool Sandbox::IsLeaving() const {
    return destroy_running_ || stage() == Stage::kStopping;
}

// Whether the provider can, and the sandbox is not at its end.
Status Sandbox::CheckPower(std::string_view verb) const {
    const std::vector<std::string> verbs = provider_.Verbs();
    if (std::find(verbs.begin(), verbs.end(), verb) == verbs.end()) {
        return Error(
            Errno{EOPNOTSUPP},
            "sandboxes of provider " + template_.provider + " cannot be stopped and started",
            Blame::kCaller);
    }
    const Stage now = stage();
    if (now == Stage::kDestroying || now == Stage::kGone || !destroy_waiters_.empty())
        return Error(Errno{EHOSTDOWN}, "sandbox '" + name_ + "' is being destroyed",
                     Blame::kCaller);
    if (now == Stage::kEnded) {
        return Error(Errno{EHOSTDOWN},
                     "sandbox '" + name_ + "' has ended (" + std::string(ToString(status())) +
                         "). Remove it with rmdir and make a new one",
                     Blame::kCaller);
    }
    if (entering_ && (*entering_ == Stage::kStopping) != (verb == "stop")) {
        return Error(Errno{EBUSY},
                     "sandbox '" + name_ +
                         "' is on its way already: wait until status has changed, then try again",
                     Blame::kCaller);
    }
    return Ok();
}

void Sandbox::PowerOff(Done done) {
    Post([done = std::move(done)](Sandbox& self) mutable { self.AskToPowerOff(std::move(done)); });
}

void Sandbox::PowerOn(Done done) {
    Post([done = std::move(done)](Sandbox& self) mutable { self.AskToPowerOn(std::move(done)); });
}

void Sandbox::AskToPowerOff(Done done) {
    if (Status can = CheckPower("stop"); !can) return done(std::move(can));
    const Stage now = stage();
    if (now == Stage::kStopping || now == Stage::kStopped) return done(Ok());
    if (now != Stage::kLaunched) {
        return done(Error(
            Errno{EBUSY},
            "sandbox '" + name_ + "' is still launching: `cat ready` waits for it, then stop it",
            Blame::kCaller));
    }
    Enter(
        Stage::kStopping, [](Sandbox& self) { self.BeginStop(); }, std::move(done));
}

void Sandbox::AskToPowerOn(Done done) {
    if (Status can = CheckPower("start"); !can) return done(std::move(can));
    const Stage now = stage();
    if (now == Stage::kLaunching || now == Stage::kLaunched || now == Stage::kStarting)
        return done(Ok());
    if (now == Stage::kStopping) {
        return done(Error(Errno{EBUSY},
                          "sandbox '" + name_ +
                              "' is still stopping: wait until status says stopped, then start it",
                          Blame::kCaller));
    }
    const std::int64_t ends_ms = Snapshot().record.lifetime_end_ms;
    if (ends_ms != 0 && ends_ms <= EpochMs(loop_.clock().System())) {
        return done(Error(
            Errno{EHOSTDOWN},
            "the max_lifetime of sandbox '" + name_ +
                "', which counts from its launch, is over. Remove it with rmdir and make a new one",
            Blame::kCaller));
    }
    Enter(
        Stage::kStarting, [](Sandbox& self) { self.BeginStart(); }, std::move(done));
}

// Journals that it is in `stage`, then answers, then acts. Until then everything goes on, so that a refusal changes
// nothing.
void Sandbox::Enter(Stage stage, UniqueFunction<void(Sandbox&)> then, Done done) {
    if (entering_) {
        // The same was asked twice; the second answer waits for the first one's commit.
        return Later(kFetchPoll, [stage, done = std::move(done)](Sandbox& self) mutable {
            if (stage == Stage::kStopping) return self.AskToPowerOff(std::move(done));
            self.AskToPowerOn(std::move(done));
        });
    }
    entering_ = stage;
    const Stage before = this->stage();
    Save([self = shared_from_this(), stage, before, then = std::move(then),
          done = std::move(done)](const Status& kept) mutable {
        self->Post([stage, before, kept, then = std::move(then),
                    done = std::move(done)](Sandbox& sandbox) mutable {
            sandbox.entering_.reset();
            const bool overtaken = sandbox.stage() != before;
            if (!kept || overtaken || sandbox.stopped_) {
                sandbox.SaveAndIgnore();  // what was tried to be written may have got through
                if (kept && overtaken) {
                    return done(
                        Error(Errno{EHOSTDOWN}, "sandbox '" + sandbox.name_ + "' ended meanwhile"));
                }
                return done(kept);
            }
            {
                const MutexLock lock(sandbox.mu_);
                sandbox.record_.stage = stage;
            }
            then(sandbox);
            done(kept);
        });
    });
}

// --- stop ---

void Sandbox::BeginStop() {
    commands_->Close(StoppedError(name_));
    SetStatus(SandboxStatus::kStopping, "");
    attach_started_ = loop_.clock().Steady();
    FetchThenStop();
}

// What has ended there keeps its outcome, if its output comes in time.
void Sandbox::FetchThenStop() {
    if (stage() != Stage::kStopping) return;  // rmdir came
    const bool in_time = loop_.clock().Steady() - attach_started_ < kFetchLimit;
    const bool pending = commands_->OutputPending() || !cached_->behind().IsClean();
    if (attachment_ != nullptr && pending && in_time)
        return Later(kFetchPoll, [](Sandbox& self) { self.FetchThenStop(); });
    commands_->End("it was stopped");
    files_->End(StoppedError(name_));
    cached_->SupervisorLost();
    cached_->cache().ForgetAll();
    DropAttachment();
    supervisor_up_ = files_up_ = false;
    failures_ = 0;
    TryStop();
}

void Sandbox::TryStop() {
    if (stage() != Stage::kStopping) return;
    provider_.Stop(token_, Snapshot().record.provider_id,
                   [self = shared_from_this()](const Status& status) {
                       self->Post([status](Sandbox& sandbox) { sandbox.PoweredOff(status); });
                   });
}

void Sandbox::PoweredOff(const Status& status) {
    if (stopped_ || stage() != Stage::kStopping) return;
    if (!status) {
        SetStatus(SandboxStatus::kStopping, status.error().what() + ". Trying again");
        return Later(kStopRetry, [](Sandbox& self) { self.TryStop(); });
    }
    {
        const MutexLock lock(mu_);
        record_.stage = Stage::kStopped;
        record_.error.clear();
    }
    KeepPowerPhase(kStoppedPhase);
    SaveAndIgnore();  // a next daemon that does not know stops it once more, harmlessly
    SetStatus(SandboxStatus::kStopped, "");
}

// A new daemon finds it stopped.
void Sandbox::StayStopped() {
    const Error down = StoppedError(name_);
    commands_->Close(down);
    commands_->End("it was stopped");
    files_->End(down);
}

// --- start ---

void Sandbox::BeginStart() {
    LaunchSpec spec;
    {
        const MutexLock lock(mu_);
        spec.name = SandboxName{name_, ""};
        spec.client_key = record_.client_key.public_line;
        spec.host_key = record_.host_key;
        spec.what = template_;
        spec.what.max_lifetime_s = 0;
        if (record_.lifetime_end_ms != 0) {
            const std::int64_t left_ms = record_.lifetime_end_ms - EpochMs(loop_.clock().System());
            spec.what.max_lifetime_s = std::max<std::int64_t>((left_ms + 999) / 1000, 1);
        }
        record_.error.clear();
        // The time while it was stopped is no idle time.
        last_use_ = loop_.clock().Steady();
        attached_before_ = false;
        use_pending_ = false;
    }
    spec.token = token_;
    spec.generation = generation_;
    use_told_ = {};
    use_untold_ = false;
    ever_ready_ = false;
    started_again_ = true;
    failures_ = 0;
    attach_started_ = {};
    commands_->Reopen();
    files_->Reopen();
    SetStatus(SandboxStatus::kLaunching, "");
    provider_.Start(
        spec, [](std::string_view) {},
        [self = shared_from_this()](Result<sbxfs::Launched> result) {
            self->Post([result = std::move(result)](Sandbox& sandbox) mutable {
                sandbox.PoweredOn(std::move(result));
            });
        });
}

void Sandbox::PoweredOn(Result<sbxfs::Launched> result) {
    if (stopped_ || stage() != Stage::kStarting) return;  // destroyed meanwhile
    if (!result) return StartFailed(result.error());
    {
        const MutexLock lock(mu_);
        record_.stage = Stage::kLaunched;
        record_.provider_id = result->id;
        record_.connect = result->connect;
        record_.facts = result->facts;
    }
    SaveAndIgnore();  // asked again, the provider finds what it has started
    Attach();
}

// Its files are there as before; what hindered it may be put right, and `start` written again.
void Sandbox::StartFailed(const Error& why) {
    {
        const MutexLock lock(mu_);
        record_.stage = Stage::kStopped;
        record_.error =
            "it could not be started: " + why.what() + ". `echo start > ctl` tries again";
    }
    SaveAndIgnore();
    StayStopped();
    SetStatus(SandboxStatus::kStopped, Snapshot().record.error);
}

// Only the newest of each, however often it is stopped.
void Sandbox::KeepPowerPhase(std::string_view phase) {
    const std::int64_t now = EpochMs(loop_.clock().System());
    const MutexLock lock(mu_);
    std::erase_if(record_.phases, [phase](const auto& one) { return one.first == phase; });
    record_.phases.emplace_back(std::string(phase), now);
}

}  // namespace sbxfs
