#include "sandbox/sandbox.h"

#include <errno.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/files.h"
#include "base/log.h"
#include "sandbox/backoff.h"
#include "sandbox/cached_files.h"
#include "sandbox/sandbox_metrics.h"

namespace sbxfs {
namespace {

constexpr Duration kLongestRetry = std::chrono::seconds(10);
constexpr Duration kLongestRetryLaunching = std::chrono::seconds(1);
// What is launched and does not answer yet is knocked at this often: it is what a launch waits for at its end.
constexpr Duration kKnockPause = std::chrono::milliseconds(100);
constexpr Duration kKnockProbePause = std::chrono::seconds(1);
// A machine that is not there yet may swallow the first packet, and the kernel sends the next ones ever later.
constexpr Duration kKnockLimit = std::chrono::seconds(1);
// A journal that could not be written is tried again this often where a command waits for it.
constexpr Duration kSaveRetry = std::chrono::seconds(1);

// Of what was lost, as much as is told.
constexpr std::size_t kMostLosses = 64U << 10;

constexpr const char* kUnknownOutcome =
    "a change of a file before it may or may not have been made: the link was cut before the "
    "sandbox "
    "answered (.mount/last_error names it). Look at the files, then run it again";

Error HostDown(const std::string& name, std::string_view status, const std::string& why) {
    std::string text = "sandbox '" + name + "' has ended (" + std::string(status) + ")";
    if (!why.empty()) text += ": " + why;
    return {Errno{EHOSTDOWN}, text + ". Remove it with rmdir and make a new one", Blame::kCaller};
}

// What commands hear once nothing of it runs.
Error DownError(const std::string& name, Stage stage, SandboxStatus status,
                const std::string& why) {
    switch (stage) {
        case Stage::kStopping:
        case Stage::kStopped:
            return StoppedError(name);
        case Stage::kLaunching:
        case Stage::kLaunched:
        case Stage::kEnded:
        case Stage::kDestroying:
        case Stage::kGone:
        case Stage::kStarting:
            break;
    }
    return HostDown(name, ToString(status), why);
}

// What is known of a sandbox before its loop has run: after a restart it is not shown as anything it
// is not.
SandboxStatus StatusAtFirst(const SandboxRecord& record) {
    switch (record.stage) {
        case Stage::kLaunching:
        case Stage::kStarting:
            return SandboxStatus::kLaunching;
        case Stage::kLaunched:
            return record.spool_id == 0 ? SandboxStatus::kLaunching : SandboxStatus::kUnreachable;
        case Stage::kEnded:
        case Stage::kGone:
            return record.ended_as;
        case Stage::kDestroying:
        case Stage::kStopping:
            return SandboxStatus::kStopping;
        case Stage::kStopped:
            return SandboxStatus::kStopped;
    }
    return SandboxStatus::kLost;
}

std::string ErrorAtFirst(const SandboxRecord& record) {
    if (StatusAtFirst(record) == SandboxStatus::kUnreachable)
        return "sbxfs was started again and is connecting";
    const bool told = record.stage == Stage::kEnded || record.stage == Stage::kGone ||
                      record.stage == Stage::kStopped;
    return told ? record.error : "";
}

Commands::Limits LimitsFor(Commands::Limits limits, const Template& what) {
    limits.parallel = static_cast<std::size_t>(what.max_parallel);
    return limits;
}

// What file operations hear while no link can be made. A refused key or a wrong host key stays
// EACCES (contract 10).
Error Unreachable(const std::string& name, const Error& why) {
    const Errno code = why.code() == Errno{EACCES} ? why.code() : Errno{EHOSTUNREACH};
    return {
        code,
        "sandbox '" + name + "' cannot be reached: " + why.what() + ". It is tried again by itself",
        Blame::kRemote};
}

}  // namespace

Sandbox::Sandbox(const SandboxServices& services, Loop& loop, Provider& provider,
                 SandboxRecord record, std::string token, GoneCallback on_gone)
    : services_(services),
      loop_(loop),
      provider_(provider),
      name_(record.name),
      generation_(record.generation),
      template_(record.what),
      token_(std::move(token)),
      created_ms_(record.created_ms),
      commands_(std::make_shared<Commands>(
          loop, *services.store, *services.outputs, services.budget, record.generation,
          LimitsFor(services.limits, record.what), DefaultsFor(record.what, record.config))),
      files_(std::make_shared<LinkedFiles>(loop, services.timeouts)),
      cached_(std::make_shared<CachedFiles>(
          loop, files_,
          CachedFiles::Setup{generation_, template_.exclusive, services.write_behind,
                             services.timeouts, services.contents})),
      record_(std::move(record)),
      status_(StatusAtFirst(record_)),
      error_(ErrorAtFirst(record_)),
      on_gone_(std::move(on_gone)),
      ever_ready_(record_.spool_id != 0),
      kept_spool_(record_.spool_id, record_.boot_id) {
    {
        const MutexLock lock(mu_);
        last_use_ = loop_.clock().Steady();
    }
    places_checked_ = ever_ready_ || provider_.OwnsMachine();
    commands_->first_unarrived = [cached = std::weak_ptr(cached_)]() -> std::optional<std::string> {
        const auto files = cached.lock();
        return files == nullptr ? std::nullopt : files->behind().FirstUnacknowledged();
    };
    if (HasEnded(status_) || status_ == SandboxStatus::kStopping)
        commands_->Close(DownError(name_, record_.stage, status_, error_));
}

Sandbox::~Sandbox() {
    commands_->SetObserver(nullptr);
}

// --- any thread ---

SandboxSnapshot Sandbox::Snapshot() const {
    const MutexLock lock(mu_);
    return {record_, status_, error_, lost_, supervisor_, clock_skew_ms_, spool_dir_};
}

SandboxStatus Sandbox::status() const {
    const MutexLock lock(mu_);
    return status_;
}

SandboxConfig Sandbox::Config() const {
    const MutexLock lock(mu_);
    return record_.config;
}

void Sandbox::LossesRead() {
    {
        const MutexLock lock(mu_);
        if (lost_.empty()) return;
        lost_.clear();
    }
    cached_->behind().Acknowledge();
}

// A caller was told that it had been made.
void Sandbox::FileLost(const std::string& path, const Error& why) {
    if (IsLeaving()) return;  // its files go anyway
    const std::string sentence = "this change was lost: " + why.what();
    {
        const MutexLock lock(mu_);
        if (lost_.size() < kMostLosses) lost_ += sentence + "\n";
    }
    changes_.Fire(kStatusChanged);
    commands_->RefuseQueuedAndNext(sentence +
                                   ". What it should have seen is not there: make it again");
    if (services_.on_lost) services_.on_lost(name_, path, Error(why.code(), sentence, why.blame()));
}

void Sandbox::DrainChanges(Done done) {
    Post([done = std::move(done)](Sandbox& self) mutable {
        self.cached_->behind().Drain(self.services_.timeouts.operation, std::move(done));
    });
}

std::string Sandbox::SpoolDir() const {
    const MutexLock lock(mu_);
    return spool_dir_;
}

std::int64_t Sandbox::ClockSkewMs() const {
    const MutexLock lock(mu_);
    return clock_skew_ms_;
}

Stage Sandbox::stage() const {
    const MutexLock lock(mu_);
    return record_.stage;
}

std::uint64_t Sandbox::WhenSettled(Job job) {
    {
        const MutexLock lock(mu_);
        if (!IsUp(status_) && !HasEnded(status_) && status_ != SandboxStatus::kStopping) {
            const std::uint64_t id = next_wait_++;
            settled_waiters_.emplace(id, std::move(job));
            return id;
        }
    }
    job();
    return 0;
}

void Sandbox::CancelWait(std::uint64_t id) {
    Job doomed;  // dies after the lock: it owns a reply
    const MutexLock lock(mu_);
    const auto it = settled_waiters_.find(id);
    if (it == settled_waiters_.end()) return;
    doomed = std::move(it->second);
    settled_waiters_.erase(it);
}

void Sandbox::Start() {
    cached_->SetMount(services_.mount);
    Post([](Sandbox& self) {
        self.commands_->SetObserver(self.cached_.get());
        self.commands_->on_use = [weak = self.weak_from_this()] {
            if (const auto sandbox = weak.lock()) sandbox->CommandMoved();
        };
        self.files_->SetWitness(self.cached_);
        self.files_->want_lane = [weak = self.weak_from_this()] {
            const auto alive = weak.lock();
            if (alive != nullptr && alive->attachment_ != nullptr) alive->attachment_->WantLane();
        };
        self.cached_->on_unknown_outcome = [weak = std::weak_ptr(self.commands_)] {
            const auto commands = weak.lock();
            if (commands != nullptr) commands->RefuseNext(kUnknownOutcome);
        };
        self.cached_->on_lost = [weak = self.weak_from_this()](const std::string& path,
                                                               const Error& why) {
            if (const auto sandbox = weak.lock()) sandbox->FileLost(path, why);
        };
        self.commands_->on_refused = [weak = std::weak_ptr(self.cached_)] {
            if (const auto cached = weak.lock()) cached->behind().Acknowledge();
        };
        self.commands_->Start();
        switch (self.stage()) {
            case Stage::kLaunching:
                return self.Launch();
            case Stage::kLaunched:
                return self.Attach();
            case Stage::kDestroying:
                return self.BeginDestroy();
            case Stage::kStopping:
                return self.BeginStop();
            case Stage::kStopped:
                return self.StayStopped();
            case Stage::kStarting:
                return self.BeginStart();
            case Stage::kEnded:
            case Stage::kGone: {
                const SandboxSnapshot now = self.Snapshot();
                return self.EndAs(now.record.ended_as, now.record.error);
            }
        }
    });
}

void Sandbox::SetProtected(bool on, Done done) {
    Post([on, done = std::move(done)](Sandbox& self) mutable {
        bool before = false;
        {
            const MutexLock lock(self.mu_);
            before = std::exchange(self.record_.is_protected, on);
        }
        self.Save([sandbox = self.shared_from_this(), before,
                   done = std::move(done)](Status kept) mutable {
            if (!kept) {
                const MutexLock lock(sandbox->mu_);
                sandbox->record_.is_protected = before;
            }
            done(std::move(kept));
        });
    });
}

void Sandbox::Configure(UniqueFunction<void(SandboxConfig&)> change, Done done) {
    Post([change = std::move(change), done = std::move(done)](Sandbox& self) mutable {
        SandboxConfig before;
        const std::uint64_t mine = ++self.config_changes_;
        {
            const MutexLock lock(self.mu_);
            before = self.record_.config;
            change(self.record_.config);
            self.record_.config.changed_ms = EpochMs(self.loop_.clock().System());
        }
        self.Save([sandbox = self.shared_from_this(), mine, before = std::move(before),
                   done = std::move(done)](const Status& kept) mutable {
            sandbox->Post([mine, kept, before = std::move(before),
                           done = std::move(done)](Sandbox& loop) mutable {
                loop.Configured(mine, kept, before);
                done(kept);
            });
        });
    });
}

void Sandbox::Configured(std::uint64_t change, const Status& kept, const SandboxConfig& before) {
    SandboxConfig now;
    {
        const MutexLock lock(mu_);
        // A later change was made on top of this one, and is on its way with it.
        if (!kept && change == config_changes_) record_.config = before;
        now = record_.config;
    }
    if (kept) commands_->SetDefaults(DefaultsFor(template_, now));
}

void Sandbox::Destroy(Done done) {
    // On the loop, as everything that writes the record: the journal then ends with the newest.
    Post([done = std::move(done)](Sandbox& self) mutable { self.AskToDestroy(std::move(done)); });
}

void Sandbox::Post(UniqueFunction<void(Sandbox&)> job) {
    loop_.Post([self = shared_from_this(), job = std::move(job)] { job(*self); });
}

void Sandbox::Later(Duration delay, UniqueFunction<void(Sandbox&)> job) {
    RunLater(loop_, delay, [weak = weak_from_this(), job = std::move(job)] {
        if (const auto self = weak.lock(); self != nullptr && !self->stopped_) job(*self);
    });
}

void Sandbox::Save(Done done) {
    DCHECK(loop_.OnThread());
    SandboxRecord copy;
    {
        const MutexLock lock(mu_);
        copy = record_;
    }
    // What is written while rmdir, or a verb, waits for its commit must not undo it.
    if (entering_) copy.stage = *entering_;
    if (!destroy_waiters_.empty()) copy.stage = Stage::kDestroying;
    services_.store->Put(copy, std::move(done));
}

void Sandbox::SaveAndIgnore() {
    // What is not kept now is found out again by the next daemon; the store has logged why.
    Save([](const Status&) {});
}

void Sandbox::Phase(std::string_view phase) {
    const std::int64_t now = EpochMs(loop_.clock().System());
    const MutexLock lock(mu_);
    if (!record_.phases.empty()) {
        const std::chrono::milliseconds took(now - record_.phases.back().second);
        sandbox_metrics.launch_phases.Add(phase, took);
    }
    record_.phases.emplace_back(std::string(phase), now);
}

void Sandbox::SetStatus(SandboxStatus status, std::string error) {
    std::map<std::uint64_t, Job> waiters;
    bool changed = false;
    {
        const MutexLock lock(mu_);
        changed = status_ != status;
        DCHECK(!changed || MayFollow(status_, status));
        status_ = status;
        error_ = error;
        const bool settled = IsUp(status) || HasEnded(status) || status == SandboxStatus::kStopping;
        if (settled) waiters.swap(settled_waiters_);
    }
    if (changed) {
        Log(HasEnded(status) && status != SandboxStatus::kStopped ? LogLevel::kWarning
                                                                  : LogLevel::kInfo,
            "sandbox status",
            {{"box", name_},
             {"generation", Raw(generation_)},
             {"status", ToString(status)},
             {"why", error}});
    }
    for (auto& [id, job] : waiters)
        job();
    changes_.Fire(kStatusChanged);
}

// --- launching ---

void Sandbox::Launch() {
    LaunchSpec spec;
    {
        const MutexLock lock(mu_);
        spec.name = SandboxName{name_, ""};
        spec.client_key = record_.client_key.public_line;
        spec.host_key = record_.host_key;
    }
    spec.token = token_;
    spec.generation = generation_;
    spec.created_ms = created_ms_;
    spec.what = template_;
    Phase("requested");
    provider_.Launch(
        spec,
        [weak = weak_from_this()](std::string_view phase) {
            if (const auto self = weak.lock()) self->Phase(phase);
        },
        [self = shared_from_this()](Result<sbxfs::Launched> result) {
            // The provider calls on a loop of its own.
            self->Post([result = std::move(result)](Sandbox& sandbox) mutable {
                sandbox.Launched(std::move(result));
            });
        });
}

void Sandbox::Launched(Result<sbxfs::Launched> result) {
    if (stage() != Stage::kLaunching || stopped_) return;  // destroyed meanwhile
    if (!result) return FailedToLaunch(result.error());
    Phase("launched");
    {
        const MutexLock lock(mu_);
        record_.stage = Stage::kLaunched;
        record_.provider_id = result->id;
        record_.connect = result->connect;
        record_.facts = result->facts;
    }
    if (!provider_.OwnsMachine()) {
        // What is left there can only be found by what the journal has.
        return Save([self = shared_from_this()](const Status&) {
            self->Post([](Sandbox& sandbox) { sandbox.Attach(); });
        });
    }
    // Not waited for: the provider finds it again by the token.
    SaveAndIgnore();
    Attach();
}

void Sandbox::FailedToLaunch(const Error& why) {
    // What may have been half made is ended; rmdir asks again until it is confirmed.
    provider_.Destroy(token_, "", [name = name_](const Status& status) {
        if (!status)
            Log(LogLevel::kWarning, "after a failed launch",
                {{"box", name}, {"why", status.error()}});
    });
    const bool expired = why.code() == Errno{ETIME};
    EndAs(expired ? SandboxStatus::kExpired : SandboxStatus::kFailed, why.what());
}

// --- the link ---

void Sandbox::Attach() {
    if (stopped_ || stage() != Stage::kLaunched) return;
    if (attach_started_ == SteadyTime{}) attach_started_ = loop_.clock().Steady();
    AttachRequest request;
    {
        const MutexLock lock(mu_);
        DCHECK(record_.connect.has_value());
        request.connect = *record_.connect;
        request.client_key = record_.client_key.private_pem;
    }
    request.epoch = services_.next_epoch->fetch_add(1);
    if (provider_.OwnsMachine()) request.bring = AttachRequest::Bring::kAtOnce;
    if (!ever_ready_)
        request.dial_limit = std::min(request.dial_limit, kKnockLimit * (1 + failures_ / 8));
    attachment_ = services_.attacher->Attach(loop_, request, *this, *commands_);
}

void Sandbox::OnAttachPhase(std::string_view phase) {
    if (ever_ready_ || started_again_) return;
    Phase(phase);
    // From here on something of ours may be there (Departed).
    if (phase == kFilesPhase && !provider_.OwnsMachine()) SaveAndIgnore();
}

void Sandbox::OnFiles(RemoteFiles& files) {
    files_->Up(files);
    if (!places_checked_) return CheckPlaces(files);
    FilesUp();
}

void Sandbox::OnSupervisor(SupervisorPort& port, const SupervisorHello& hello,
                           const std::string& spool_dir) {
    Commands::Spool spool{.id = hello.spool_id};
    {
        const MutexLock lock(mu_);
        const bool first = record_.spool_id == 0;
        spool.same = first || record_.spool_id == hello.spool_id;
        spool.same_boot = first || record_.boot_id == hello.boot_id;
        record_.spool_id = hello.spool_id;
        record_.boot_id = hello.boot_id;
        supervisor_ = hello;
        clock_skew_ms_ = hello.clock_ms - EpochMs(loop_.clock().System());
        spool_dir_ = spool_dir;
    }
    cached_->SupervisorUp(port, hello);
    commands_->Attached(port, spool);
    KeepSpool();
    port_ = &port;
    SetTimer();
    // Its channel may be the faster one: until the files are there they refuse as before.
    supervisor_up_ = true;
    if (files_up_) Ready();
}

// Before anything is started there: should this daemon be killed, the next one must know the spool.
void Sandbox::KeepSpool() {
    std::pair<std::uint64_t, std::uint64_t> spool;
    {
        const MutexLock lock(mu_);
        spool = {record_.spool_id, record_.boot_id};
    }
    if (!places_checked_) return;  // FilesUp() goes on
    if (spool == kept_spool_) return commands_->AllowFor(spool.first);
    Save([self = shared_from_this(), spool](const Status& kept) {
        self->Post([spool, ok = kept.has_value()](Sandbox& sandbox) {
            if (!ok) return sandbox.Later(kSaveRetry, [](Sandbox& again) { again.KeepSpool(); });
            sandbox.kept_spool_ = spool;
            sandbox.commands_->AllowFor(spool.first);
        });
    });
}

void Sandbox::Ready() {
    failures_ = 0;
    if (!std::exchange(ever_ready_, true)) {
        if (started_again_) {
            KeepPowerPhase("started");
        } else {
            Phase("ready");
            sandbox_metrics.launches.AddTo(sandbox_metrics.launches.PlaceOf("ready"));
        }
        SaveAndIgnore();
    }
    if (IsLeaving()) return;
    SetStatus(SandboxStatus::kReady, "");
    UpdateExpiring();
}

void Sandbox::OnSupervisorLost(const Error& why) {
    port_ = nullptr;
    supervisor_up_ = false;
    commands_->Detached();
    cached_->SupervisorLost();
    if (IsLeaving()) return;
    if (ever_ready_) {
        SetStatus(SandboxStatus::kUnreachable, why.what() + ". Files can be used; commands wait");
    } else {
        SetStatus(SandboxStatus::kLaunching, why.what());
    }
}

void Sandbox::OnDetached(const Error& why) {
    port_ = nullptr;
    supervisor_up_ = files_up_ = false;
    commands_->Detached();
    cached_->SupervisorLost();
    files_->Cut();
    ++failures_;
    sandbox_metrics.link_losses.Add();
    // The first new link after a good one is tried at once, and requests wait for it. After that
    // they fail at once.
    if (IsLeaving()) {
        // It stays `stopping`; FetchThenDestroy(), or FetchThenStop(), sees that there is nothing to wait for any more.
    } else if (ever_ready_) {
        if (failures_ > 1) files_->Down(Unreachable(name_, why));
        SetStatus(SandboxStatus::kUnreachable, why.what() + ". Trying again");
    } else {
        SetStatus(SandboxStatus::kLaunching, "not reachable yet: " + why.what());
    }
    Post([why](Sandbox& self) {
        self.DropAttachment();
        if (self.stopped_ || self.stage() != Stage::kLaunched) return;
        if (why.code() == Errno{EOPNOTSUPP}) return self.EndAs(SandboxStatus::kFailed, why.what());
        const bool refused = why.code() == Errno{EACCES} || why.code() == Errno{ENOEXEC};
        if (refused && !self.ever_ready_ && !self.provider_.OwnsMachine())
            return self.EndAs(SandboxStatus::kFailed, why.what());
        if (self.ever_ready_ && self.failures_ == 1) return self.Attach();
        const bool silent = why.code() == Errno{EHOSTUNREACH} || why.code() == Errno{ETIMEDOUT};
        if (silent && self.StillStarting()) return self.KnockAgain();
        self.ProbeThenReattach();
    });
}

bool Sandbox::StillStarting() const {
    return !ever_ready_ && provider_.OwnsMachine() &&
           loop_.clock().Steady() - attach_started_ <= services_.launch_limit;
}

// Its end is looked out for beside, so that neither waits for the other.
void Sandbox::KnockAgain() {
    Later(Backoff(failures_, kKnockPause), [](Sandbox& self) { self.Attach(); });
    const SteadyTime now = loop_.clock().Steady();
    if (now - last_probe_ < kKnockProbePause) return;
    last_probe_ = now;
    std::string id;
    {
        const MutexLock lock(mu_);
        id = record_.provider_id;
    }
    provider_.Probe(token_, id, [self = shared_from_this()](const Health& health) {
        self->Post([health](Sandbox& sandbox) {
            // Asked before it could be reached: what comes of a link that is up is for its loss to say.
            if (!sandbox.ever_ready_) (void)sandbox.EndedAs(health);
        });
    });
}

void Sandbox::ProbeThenReattach() {
    std::string id;
    {
        const MutexLock lock(mu_);
        id = record_.provider_id;
    }
    provider_.Probe(token_, id, [self = shared_from_this()](const Health& health) {
        self->Post([health](Sandbox& sandbox) { sandbox.Probed(health); });
    });
}

void Sandbox::Probed(const Health& health) {
    if (stopped_ || stage() != Stage::kLaunched || EndedAs(health)) return;
    if (!ever_ready_ && loop_.clock().Steady() - attach_started_ > services_.launch_limit) {
        const std::string last = Snapshot().error;
        return EndAs(SandboxStatus::kFailed, "it was launched, but could not be reached: " + last);
    }
    Later(Backoff(failures_, ever_ready_ ? kLongestRetry : kLongestRetryLaunching),
          [](Sandbox& self) { self.Attach(); });
}

bool Sandbox::EndedAs(const Health& health) {
    if (stopped_ || stage() != Stage::kLaunched) return false;
    switch (health.liveness) {
        case Liveness::kEnded:
            EndAs(SandboxStatus::kFailed, health.why);
            return true;
        case Liveness::kExpired:
            EndAs(SandboxStatus::kExpired, health.why);
            return true;
        case Liveness::kVanished:
            EndAs(SandboxStatus::kLost, health.why);
            return true;
        case Liveness::kAlive:
        case Liveness::kUnknown:
            return false;
    }
    return false;
}

// --- the end ---

void Sandbox::DropAttachment() {
    port_ = nullptr;
    attachment_.reset();
}

void Sandbox::EndAs(SandboxStatus status, const std::string& error) {
    bool save = false;
    {
        const MutexLock lock(mu_);
        save = record_.stage == Stage::kLaunching || record_.stage == Stage::kLaunched;
        if (save) {
            record_.stage = Stage::kEnded;
            record_.ended_as = status;
            record_.error = error;
            record_.ended_ms = EpochMs(loop_.clock().System());
        }
    }
    if (save && !ever_ready_)
        sandbox_metrics.launches.AddTo(sandbox_metrics.launches.PlaceOf("failed"));
    if (save) SaveAndIgnore();
    const Error down = HostDown(name_, ToString(status), error);
    commands_->Close(down);
    commands_->End(error);
    files_->End(down);
    cached_->SupervisorLost();
    cached_->cache().ForgetAll();
    DropAttachment();  // last: what fails with it finds its answer decided
    SetStatus(status, error);
}

void Sandbox::Stop() {
    DCHECK(loop_.OnThread());
    stopped_ = true;
    commands_->Stop();
    cached_->SupervisorLost();
    files_->Down(Error(Errno{EHOSTUNREACH}, "sbxfs is being unmounted"));
    DropAttachment();
    departure_.reset();
}

}  // namespace sbxfs
