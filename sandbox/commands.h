// The commands of one sandbox: accepted ones get a number and a place in the journal, wait their
// turn, are started at most once by the supervisor, and end with an outcome that is what the
// process returned, or `lost`, or `refused`; never invented (contract 4).
//
// Owned by Sandbox. The part for FUSE threads (Reserve, Submit, Find, ...) is guarded by mu_;
// dispatch and everything the supervisor says happens on the sandbox's loop. Callbacks run without
// mu_ held.
//
// At most once, through crashes of either side: a command is in the journal before it is started;
// the supervisor's directory for its number is made before it starts there, and lists what it knows
// at every attach. What it knows is taken over, never started again. What it does not know was
// never started, as long as its spool is the one the journal remembers and its machine was not
// restarted; otherwise nobody can tell, and the command is lost.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/loop.h"
#include "base/result.h"
#include "base/sync.h"
#include "sandbox/change_signal.h"
#include "sandbox/output_budget.h"
#include "sandbox/outputs.h"
#include "sandbox/records.h"
#include "sandbox/sandbox_config.h"
#include "sandbox/sandbox_metrics.h"
#include "sandbox/store.h"
#include "sandbox/supervisor_port.h"

namespace sbxfs {

// A command as others see it: a copy, true at the moment it was made.
struct EventView {
    CommandRecord record;
    OutputSizes sizes;         // bytes that can be read here now
    OutputTimes arrived;       // when the newest of them came, as far as is known
    OutputHoles stdout_holes;  // what of them is not kept
    OutputHoles stderr_holes;
};

using SubmitDone = UniqueFunction<void(Result<EventNumber>)>;

// Told around every command, on the loop: what is cached of the sandbox's files is true of one side of it
// only (contract 5). `go` runs on the loop, within the call or later; nothing else waits meanwhile.
class CommandObserver {
 public:
    CommandObserver() = default;
    CommandObserver(const CommandObserver&) = delete;
    CommandObserver& operator=(const CommandObserver&) = delete;
    virtual ~CommandObserver() = default;

    // `go` starts it.
    virtual void BeforeStart(Job go) = 0;
    // It has ended there; `go` lets its outcome be seen. `active` others run, or are about to.
    virtual void AfterEnd(std::uint32_t others, std::size_t active, Job go) = 0;
    // What runs there is known, after an attach; or one that was to run did not.
    virtual void Settled(std::size_t active) = 0;
};

class Commands final : public SupervisorListener,
                       public OutputOwner,
                       public std::enable_shared_from_this<Commands> {
 public:
    struct Limits {
        std::size_t queue = 1024;           // waiting and running commands
        std::size_t script = 1U << 20;      // bytes
        std::size_t parallel = 16;          // running run/NAME commands
        std::size_t cached_script = 16384;  // larger ones wait in the journal, not in memory
        std::uint64_t output = 64U << 20;   // bytes kept of a stream (contract 4)
    };
    // `budget` may be null: no limit for all together.
    Commands(Loop& loop, Store& store, Outputs& outputs, OutputBudget* budget,
             Generation generation, Limits limits, CommandDefaults defaults);
    ~Commands() override;

    // At start, before anything else: what the journal remembers, in order of n. What waits may have
    // been started by an earlier daemon, unless that was never attached.
    enum class EverAttached { kNo, kYes };
    void Restore(std::vector<CommandRecord> records, EverAttached ever_attached,
                 std::optional<NextRefusal> refusal);

    // --- any thread ---

    // A place in the queue and room in the journal, so that a later Submit cannot be refused for
    // their lack. Given back by its destructor.
    class Slot {
     public:
        Slot() = default;
        Slot(Slot&& other) noexcept = default;
        Slot& operator=(Slot&& other) noexcept;
        ~Slot() { GiveBack(); }
        explicit operator bool() const { return owner_ != nullptr; }

     private:
        friend class Commands;
        void GiveBack();
        std::shared_ptr<Commands> owner_;
        std::string name_;
    };
    // EHOSTDOWN when the sandbox has ended, EAGAIN when the queue is full, ENOSPC; with a name also
    // EEXIST.
    Result<Slot> Reserve(const std::string& name);
    // Gives a place the name that its command turns out to have; the one it had before is free again.
    // EEXIST.
    Status Rename(Slot& slot, const std::string& name);
    // The file this place is for was closed once with nothing written. That may have been the last close, of
    // which we hear only a moment later: whoever wants its name now should ask again.
    void MayBeClosed(const Slot& slot);
    bool MayBeFreeSoon(const std::string& name) const;
    // Why nothing can be submitted any more; empty while it can.
    std::optional<Error> Closed() const;
    // EFBIG when `size` bytes in all are too many, EINVAL for a NUL byte in `part`.
    Status CheckScript(std::size_t size, std::string_view part) const;
    // Takes the command over; `done` runs when it is in the journal, with its number.
    void Submit(Slot slot, CommandSpec spec, std::string script, SubmitDone done);

    std::vector<EventNumber> Numbers() const;  // ascending, without forgotten ones
    std::vector<std::pair<std::string, EventNumber>> Names() const;  // of events that are there
    bool NameUsed(const std::string& name) const;  // also by forgotten and reserved ones
    std::optional<EventNumber> Latest() const;
    bool AnyRunning() const;
    // How many of each, true a moment ago.
    struct Load {
        std::int64_t queued = 0;
        std::int64_t running = 0;
    };
    Load HowMany() const { return {queued_.value(), running_.value()}; }
    std::optional<EventNumber> FindName(const std::string& name) const;
    std::optional<EventView> Find(EventNumber n) const;
    void ReadScript(EventNumber n, TextDone done);
    void ReadOutput(EventNumber n, OutputStream stream, FileRange range, BytesDone done);

    // events/log.jsonl: a line per finished event, in the order they finished; append-only.
    std::uint64_t LogSize() const;
    void ReadLog(FileRange range, BytesDone done);

    // Fires with an event's number when its state or output changes, or it is forgotten; with kLogChanged
    // when log.jsonl grows.
    static constexpr std::uint64_t kLogChanged = 0;
    ChangeSignal& changes() { return changes_; }
    // No command will be accepted, and all that were have finished and are in log.jsonl.
    bool IsOver() const;
    void GiveUpOutput(EventNumber n) override;

    // Runs `job` once the event is finished; at once, on this thread, when it is already. The id
    // cancels it.
    std::uint64_t WhenFinished(EventNumber n, Job job);
    void CancelWait(EventNumber n, std::uint64_t id);
    // To the process tree of a running command; one that waits for its turn is cancelled (refused). ESRCH
    // when it has finished, EHOSTUNREACH while the sandbox cannot be told.
    void Signal(EventNumber n, int signal, Done done);
    // rmdir events/N: EBUSY while it waits or runs.
    void Forget(EventNumber n, Done done);

    // Refuses new commands from now on with this error; nothing else changes.
    void Close(const Error& why);

    // --- loop thread only ---

    // Once, when everything of the daemon runs: what an earlier one left to be written.
    void Start();
    // For every command that is started from now on, also those that wait already.
    void SetDefaults(CommandDefaults defaults);

    // The supervisor answered. Nothing is started before Allow(): the journal must know the spool
    // first.
    struct Spool {
        std::uint64_t id = 0;
        bool same = false;  // it is the one the journal remembers: what it knows is ours
        bool same_boot =
            false;  // and its machine was not restarted: what it does not know never ran
    };
    void Attached(SupervisorPort& port, const Spool& spool);
    void Allow();
    void AllowFor(std::uint64_t spool_id);  // the same, unless another spool is attached by now
    void Detached();
    // The daemon is going away; what runs there goes on.
    void Stop();
    // The sandbox is gone, or stopped: what waits is refused, what runs is lost.
    void End(const std::string& why);
    // After Close() and End(): it was started again, and the numbers go on.
    void Reopen();
    // Files are not known to be what their writers think they are: the next command to be accepted is
    // refused. Those before it were accepted without knowing of the change.
    void RefuseNext(const std::string& why);
    // Some that were told to have been made are lost: all that wait, and the next one to be accepted.
    void RefuseQueuedAndNext(const std::string& why);
    // Output of a command that has ended is still on its way.
    bool OutputPending() const;
    void OnKnown(EventNumber n, bool done, OutputSizes sizes) override;
    void OnKnownEnd() override;
    void OnStarted(EventNumber n, std::int64_t started_ms) override;
    void OnOutput(EventNumber n, OutputStream stream, std::uint64_t offset,
                  std::string bytes) override;
    void OnHole(EventNumber n, OutputStream stream, std::uint64_t offset,
                std::uint64_t length) override;
    void OnDone(EventNumber n, const CommandEnd& end) override;
    void OnCommandError(EventNumber n, const Error& error) override;

    // May stay null. Outlives this, or is set to null.
    void SetObserver(CommandObserver* observer) { observer_ = observer; }
    // Asked from any thread when a command is submitted: what it must see and the sandbox has not acknowledged. Set
    // before the first.
    std::function<std::optional<std::string>()> first_unarrived;
    // Called on the loop when a command was refused for files that did not arrive.
    std::function<void()> on_refused;
    // Called on the loop when a command is started or has ended: the sandbox is in use.
    std::function<void()> on_use;

 private:
    struct Event;
    using EventPtr = std::shared_ptr<Event>;

    Status CheckUnused(const std::string& name) const REQUIRES(mu_);
    EventPtr FindEvent(EventNumber n) const;
    void Count(EventStatus from, EventStatus to) REQUIRES(mu_);
    std::vector<EventPtr> Unfinished() const;
    EventState StateOf(const EventPtr& event) const;
    EventStatus StatusOf(const EventPtr& event) const;
    bool IsNext(EventNumber n) const;
    void CommitHeard(EventNumber n);
    void Dispatch();
    void Begin(const EventPtr& event);
    void Prepare(const EventPtr& event, std::string script);
    void NoteFilesArrived(const EventPtr& event, std::string script);
    void Send(const EventPtr& event, std::string script);
    std::size_t Active() const { return active_serial_.size() + active_parallel_.size(); }
    struct Piece {
        OutputStream stream;
        std::uint64_t offset;
        std::uint64_t size;
        bool kept;  // false: a hole
    };
    bool Continues(const EventPtr& event, OutputStream stream, std::uint64_t offset);
    void Written(const EventPtr& event, const Piece& piece, const Status& status);
    void KeepToLimit(const EventPtr& event, OutputStream stream);
    void TellBudget(const EventPtr& event);
    void DropOutput(EventNumber n);
    static std::string LogLine(const CommandRecord& finished);
    void WriteLog();
    void RestoreLog(const std::vector<CommandRecord>& records);
    void RestoreHoles(Event& event) const;
    void Reread(const EventPtr& event);
    void FinishIfComplete(const EventPtr& event);
    void Finish(const EventPtr& event, EventState state);
    void FinishAs(const EventPtr& event, EventStatus status, const std::string& reason);
    void Publish(const EventPtr& event, const EventState& state, const std::string& line);
    void ReleaseSpool(EventNumber n);
    void FetchAgain(const EventPtr& event);
    void RecordSoon(const EventPtr& event);
    void RecordRunning(const EventPtr& event);
    void Reconcile(const EventPtr& event);
    void TakeOver(const EventPtr& event);
    // Runs `job` on the loop after `delay`, if this still lives then.
    void Later(Duration delay, UniqueFunction<void(Commands&)> job);
    // Posts to the loop, keeping this alive until then.
    void Post(UniqueFunction<void(Commands&)> job);

    Loop& loop_;
    Store& store_;
    Outputs& outputs_;
    OutputBudget* const budget_;
    const Generation generation_;
    const Limits limits_;

    mutable Mutex mu_{LockRank::kCommands};
    std::map<EventNumber, EventPtr> events_ GUARDED_BY(mu_);
    std::map<std::string, EventNumber> names_ GUARDED_BY(mu_);  // also of forgotten ones
    std::set<std::string> reserved_names_ GUARDED_BY(mu_);
    std::set<std::string> closing_names_ GUARDED_BY(mu_);  // of these, see MayBeClosed
    std::set<EventNumber> committing_ GUARDED_BY(
        mu_);                                     // numbered; the loop has not heard of the commit
    std::size_t slots_ GUARDED_BY(mu_) = 0;       // reserved, not submitted
    std::size_t unfinished_ GUARDED_BY(mu_) = 0;  // submitted, not finished
    GaugeShare queued_{sandbox_metrics.commands_queued};
    GaugeShare running_{sandbox_metrics.commands_running};
    std::uint64_t next_ GUARDED_BY(mu_) = 1;
    std::uint64_t next_wait_ GUARDED_BY(mu_) = 1;
    std::optional<Error> closed_ GUARDED_BY(mu_);
    std::uint64_t log_kept_ GUARDED_BY(mu_) = 0;  // bytes of log.jsonl in its file
    std::string log_tail_ GUARDED_BY(mu_);        // the lines that are not there yet

    ChangeSignal changes_;

    // Loop thread's own.
    CommandDefaults defaults_;
    SupervisorPort* port_ = nullptr;
    Spool spool_;
    bool reconciled_ = false;  // KnownEnd has come on this attach
    bool allowed_ = false;
    std::map<EventNumber, bool> known_;
    std::set<EventNumber> waiting_serial_;
    std::set<EventNumber> waiting_parallel_;
    std::set<EventNumber> active_serial_;  // loading its script, started, or not known: at most one
    std::set<EventNumber> active_parallel_;
    CommandObserver* observer_ = nullptr;
    std::uint64_t next_finish_ = 1;
    bool log_writing_ = false;
    std::optional<NextRefusal> refusal_;  // as the journal has it
    std::optional<std::string> ended_;    // why nothing will be started any more
};

}  // namespace sbxfs
