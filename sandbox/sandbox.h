// One sandbox: its journal record, the state machine that launches, attaches, re-attaches and
// destroys it, and what it owns: its commands and its files. Made by Sandboxes; held by nodes and
// callbacks through shared_ptr.
//
//     Launched --stop--> Stopping --confirmed--> Stopped --start--> Starting --started--> Launched
//
// The machine runs on the sandbox's loop. What other threads may ask (Snapshot, commands(),
// files()) is guarded by mu_ or thread-safe by itself. Stages are in the journal before they are
// acted on, so a new daemon goes on where this one was killed:
//
//     Launching --launched--> Launched --ended--> Ended
//         |                       |                 |         rmdir from anywhere
//         +-----------------------+-----------------+--------> Destroying --confirmed--> Gone
//
// Within Launched the link comes and goes: ready when files and supervisor are there, unreachable
// when a new link could not be made; then the provider is asked whether the sandbox still lives.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/loop.h"
#include "base/result.h"
#include "base/sync.h"
#include "sandbox/attachment.h"
#include "sandbox/commands.h"
#include "sandbox/departure.h"
#include "sandbox/linked_files.h"
#include "sandbox/outputs.h"
#include "sandbox/provider.h"
#include "sandbox/records.h"
#include "sandbox/store.h"

namespace sbxfs {

class CachedFiles;
class ContentStore;
class MountCaches;

// What all sandboxes of a mount share. Everything here outlives them.
struct SandboxServices {
    Store* store = nullptr;
    Outputs* outputs = nullptr;
    OutputBudget* budget = nullptr;  // may stay null: no limit for all sandboxes together
    Attacher* attacher = nullptr;
    LinkedFiles::Timeouts timeouts;
    Commands::Limits limits;
    std::atomic<std::uint64_t>* next_epoch = nullptr;
    Duration launch_limit = std::chrono::minutes(10);  // from launched to first attached
    Clock* clock = &RealClock();                       // what loops use
    MountCaches* mount = nullptr;                      // may stay null
    bool write_behind = false;                         // what "writeback=on" says
    // Told, on a sandbox's loop, of a change of its file at `path` that was lost. May stay empty.
    std::function<void(const std::string& box, const std::string& path, const Error& why)> on_lost;
    std::shared_ptr<ContentStore> contents;  // none: each sandbox has its own
};

// A copy of what is known, true at the moment it was made.
struct SandboxSnapshot {
    SandboxRecord record;
    SandboxStatus status = SandboxStatus::kLaunching;
    std::string error;  // empty, or a sentence with a remedy
    std::string lost;   // the same of files that did not arrive, a line each; until they were read
    std::optional<SupervisorHello> supervisor;
    std::int64_t clock_skew_ms = 0;  // the sandbox's clock minus ours
    std::string spool_dir;           // absolute, hidden from fs/
};

// What commands and files of a stopped one hear: EHOSTDOWN, and how to start it.
Error StoppedError(const std::string& name);

class Sandbox final : public AttachmentListener, public std::enable_shared_from_this<Sandbox> {
 public:
    // Called on the loop when the sandbox is gone for good, to drop it from the registry's books.
    using GoneCallback = UniqueFunction<void(const Sandbox&)>;

    Sandbox(const SandboxServices& services, Loop& loop, Provider& provider, SandboxRecord record,
            std::string token, GoneCallback on_gone);
    ~Sandbox() override;

    // --- any thread ---
    const std::string& name() const { return name_; }
    Generation generation() const { return generation_; }
    const Template& what() const { return template_; }
    std::int64_t created_ms() const { return created_ms_; }
    SandboxSnapshot Snapshot() const;
    SandboxStatus status() const;
    SandboxConfig Config() const;
    // Somebody has read which files did not arrive: writes are taken again.
    void LossesRead();
    bool IsGone() const { return stage() == Stage::kGone; }  // nothing of it will change
    // Absolute, hidden from fs/; empty until the supervisor was first reached.
    std::string SpoolDir() const;
    std::int64_t ClockSkewMs() const;
    Commands& commands() { return *commands_; }
    LinkedFiles& files() { return *files_; }
    // The same with what is known of them, for the mount.
    CachedFiles& cached() { return *cached_; }
    Provider& provider() { return provider_; }

    // Fires with kStatusChanged when status or error may have changed.
    static constexpr std::uint64_t kStatusChanged = 0;
    ChangeSignal& changes() { return changes_; }

    // Runs `job` once the sandbox is ready or has ended; at once when it is. 0 then, else an id to
    // cancel with.
    std::uint64_t WhenSettled(Job job);
    void CancelWait(std::uint64_t id);

    // Starts the machine where the record says. For a new one: after its intent is in the journal.
    void Start();
    // While protected, Destroy is EBUSY. Journaled before `done`, which runs on any thread.
    void SetProtected(bool on, Done done);
    // A write to config/: `change` is applied and journaled; commands that start after `done` see it. `done` runs
    // on the loop.
    void Configure(UniqueFunction<void(SandboxConfig&)> change, Done done);
    // Until it ends itself, as far as is known here; nothing: it does not.
    std::optional<std::int64_t> TimeLeftMs() const;
    // When that was last set by a write to ttl, else by the launch.
    std::int64_t TimesSetMs() const;
    // Somebody used its files: the idle clock starts again, there too, in time. Cheap.
    void Used();
    // A write to ttl: so many seconds from now, or from its end (`add`), at most the template's max_lifetime from the
    // launch. `done` runs on the loop when the sandbox's own timer and the journal have it: EHOSTUNREACH when it cannot
    // be told now, and then nothing changed.
    struct TtlChange {
        std::int64_t seconds = 0;
        bool add = false;
    };
    void SetTtl(TtlChange change, Done done);
    // rmdir: journals, then `done` (on the loop), then everything else behind. Idempotent.
    void Destroy(Done done);
    void RunOnLoop(UniqueFunction<void(Sandbox&)> job) { Post(std::move(job)); }
    // Of a sandbox that is being destroyed on a machine that stays: no more is tried to clear the
    // spool there. EINVAL when there is nothing to give up.
    void Forget(Done done);
    bool CanForget() const;

    // `stop` and `start` of ctl: journaled, then `done` (on the loop), then everything else behind. What is so already
    // is fine; EBUSY while it is on its way from one to the other; EOPNOTSUPP where the provider has no such verb.
    void PowerOff(Done done);
    void PowerOn(Done done);

    // `done` runs on the loop when every change of its files that was told to a caller has been acknowledged, within
    // op_timeout; ETIMEDOUT names the first that has not.
    void DrainChanges(Done done);
    // Ends the machine without touching the sandbox: the daemon is going away. Loop thread only.
    void Stop();

    // --- AttachmentListener, loop thread ---
    void OnAttachPhase(std::string_view phase) override;
    void OnFiles(RemoteFiles& files) override;
    void OnLane(RemoteFiles* lane) override { files_->SetLane(lane); }
    void OnSupervisor(SupervisorPort& port, const SupervisorHello& hello,
                      const std::string& spool_dir) override;
    void OnSupervisorLost(const Error& why) override;
    void OnDetached(const Error& why) override;

 private:
    void Post(UniqueFunction<void(Sandbox&)> job);
    void Later(Duration delay, UniqueFunction<void(Sandbox&)> job);
    void Save(Done done);
    void SaveAndIgnore();
    void Configured(std::uint64_t change, const Status& kept, const SandboxConfig& before);
    void Launch();
    void Launched(Result<sbxfs::Launched> result);
    void Attach();
    void ProbeThenReattach();
    void Probed(const Health& health);
    bool StillStarting() const;
    void KnockAgain();
    // True: it has ended, says its provider, and is told so.
    bool EndedAs(const Health& health);
    void Ready();
    void KeepSpool();
    void DropAttachment();
    void EndAs(SandboxStatus status, const std::string& error);
    void FailedToLaunch(const Error& why);
    void AskToDestroy(Done done);
    void DestroyKept(const Status& kept);
    void BeginDestroy();
    void FetchThenDestroy();
    void TryDestroy();
    // sandbox_expiry.cc: when it ends itself.
    struct Times {
        std::int64_t lifetime_end_ms = 0;
        std::int64_t idle_timeout_s = 0;
        std::int64_t set_ms = 0;
    };
    void SetTimer();
    void TimerIs(const TimerState& state);
    void CommandMoved();
    void TellUseInTime();
    void TellUse();
    void NextTtl();
    Result<Times> TimesAfter(TtlChange change) const;
    void KeepTimes(const Times& times);
    void TtlDone(const Status& status);
    void UpdateExpiring();
    // sandbox_power.cc: stop and start.
    void AskToPowerOff(Done done);
    void AskToPowerOn(Done done);
    Status CheckPower(std::string_view verb) const;
    void Enter(Stage stage, UniqueFunction<void(Sandbox&)> then, Done done);
    void BeginStop();
    void FetchThenStop();
    void TryStop();
    void PoweredOff(const Status& status);
    void StayStopped();
    void BeginStart();
    void PoweredOn(Result<sbxfs::Launched> result);
    void StartFailed(const Error& why);
    void KeepPowerPhase(std::string_view phase);
    bool IsLeaving() const;
    // sandbox_departure.cc: what a machine that stays needs more.
    void CheckPlaces(RemoteFiles& files);
    void PlacesChecked(const std::string& wrong);
    void FilesUp();
    bool MustDepart() const;
    void Depart();
    void Departed(const Status& status);
    void Destroyed(const Status& status);
    void Confirmed();
    void SetStatus(SandboxStatus status, std::string error);
    void Phase(std::string_view phase);
    void FileLost(const std::string& path, const Error& why);
    Stage stage() const;

    const SandboxServices& services_;
    Loop& loop_;
    Provider& provider_;
    const std::string name_;
    const Generation generation_;
    const Template template_;
    const std::string token_;
    const std::int64_t created_ms_;
    const std::shared_ptr<Commands> commands_;
    const std::shared_ptr<LinkedFiles> files_;
    const std::shared_ptr<CachedFiles> cached_;

    mutable Mutex mu_{LockRank::kSandbox};
    SandboxRecord record_ GUARDED_BY(mu_);
    SandboxStatus status_ GUARDED_BY(mu_);
    std::string error_ GUARDED_BY(mu_);
    std::string lost_ GUARDED_BY(mu_);  // lines for `error`, oldest first
    std::optional<SupervisorHello> supervisor_ GUARDED_BY(mu_);
    std::int64_t clock_skew_ms_ GUARDED_BY(mu_) = 0;
    std::string spool_dir_ GUARDED_BY(mu_);
    std::map<std::uint64_t, Job> settled_waiters_ GUARDED_BY(mu_);
    std::uint64_t next_wait_ GUARDED_BY(mu_) = 1;
    SteadyTime last_use_ GUARDED_BY(mu_);           // as far as is known here
    bool attached_before_ GUARDED_BY(mu_) = false;  // by this daemon, so last_use_ is no guess
    bool use_pending_ GUARDED_BY(mu_) = false;      // the loop is about to tell it there

    ChangeSignal changes_;

    // The loop thread's own.
    GoneCallback on_gone_;
    std::unique_ptr<Attachment> attachment_;
    SupervisorPort* port_ = nullptr;  // the attachment's, while its supervisor answers
    std::list<std::pair<TtlChange, Done>> ttl_waiting_;
    std::uint64_t ttl_turn_ = 0;  // changes when the write that waits for the timer is over
    SteadyTime use_told_{};
    bool use_untold_ = false;
    std::optional<SteadyTime> expiry_look_;  // when UpdateExpiring() comes by itself
    bool stopped_ = false;
    std::optional<Stage> entering_;  // by a verb; its commit is on its way
    bool started_again_ = false;     // so the phases of the launch stand
    bool destroy_running_ = false;
    bool files_up_ = false;
    bool supervisor_up_ = false;
    bool places_checked_ = false;  // the workdir is there, or is not our business
    bool departed_ = false;  // nothing of ours is on the machine any more, or that was given up
    std::uint64_t destroy_try_ = 0;
    std::unique_ptr<Departure> departure_;
    bool ever_ready_;                                     // also in an earlier life of the daemon
    std::pair<std::uint64_t, std::uint64_t> kept_spool_;  // spool and boot id the journal has
    std::vector<Done> destroy_waiters_;                   // rmdirs whose commit is on its way
    std::uint64_t config_changes_ = 0;
    int failures_ = 0;             // attachments that failed in a row
    SteadyTime last_probe_{};      // while it has never answered
    SteadyTime attach_started_{};  // of the first attach; then of the destroying
};

}  // namespace sbxfs
