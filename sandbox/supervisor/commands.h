// All commands of the spool: making them, watching their output grow, ending them in time, writing
// down how they ended, removing them. The lanes start and reap processes and tell what happened;
// the session tells the daemon.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/command.h"
#include "sandbox/supervisor/intervals.h"
#include "sandbox/supervisor/late_signals.h"

namespace sbxfs::supervisor {

class Commands {
 public:
    explicit Commands(Runtime& runtime) : runtime_(runtime) {}

    // Reads the spool; what ran when the last supervisor died is lost, and what is left of it is
    // killed. Negative errno: what is there cannot be told, and nothing may be started.
    long Recover();

    Command* Find(uint64_t n);
    bool WasForgotten(uint64_t n) const { return started_.Has(n); }
    // The directory and all; when that fails the command is there, done and not started.
    Command* Create(const StartFields& fields, Box<StartOrder> order, const Account* owner);
    // Notes what its tree is, just before anything of it runs. Negative errno: nothing was noted,
    // do not start.
    long Begin(Command& command, ProcessId root, int session);
    void SetRoot(Command& command, ProcessId root, int session);
    void Finish(Command& command, Ending ending);
    // -EBUSY while it runs.
    long Forget(uint64_t n);
    void Signal(Command& command, int signal, bool with_shell);
    // TERM to its tree and its shell now, KILL later.
    void End(Command& command, EndCause cause);
    // As End for all, and those that wait are cancelled.
    void EndAll(EndCause cause);
    // At once, for a shutdown: kills every tree.
    void KillAll();

    bool AnyRunning() const;
    size_t Count() const { return all_.size(); }
    Command& At(size_t i) { return *all_[i]; }

    // Output that grew. The result is false when nothing was there to read.
    void OnFileEvents();
    int file_events() const { return inotify_.get(); }
    void OpenWatch();
    // Looks at both files again.
    void Refresh(Command& command);
    // What a finished command's outcome promised and its files no longer hold becomes a hole.
    static void KeepPromise(Command& command);
    bool EnsureOpen(Command& command);
    void CloseIfIdle(Command& command);
    // Removes a forgotten command once nobody writes and all was pushed.
    void RemoveIfDone(Command& command);

    // Timeouts, the ends of trees, coalesced file events.
    void Tick(int64_t now_ms);
    int64_t NextTick() const;

    int shell_pid = 0;  // of the persistent shell, which is nobody

 private:
    // The processes of parallel commands that have not been waited for.
    Vec<ProcessId> Roots() const;
    // See DoneFields::others.
    uint32_t OthersAfter(const Command& ended) const;
    // Its final sizes. False: they cannot be told.
    bool MeasureOutput(Command& command);
    void RecoverOne(uint64_t n, Vec<uint64_t>* lost);
    void KillLeftovers(const Vec<uint64_t>& lost);
    // How many heard it.
    size_t SignalTree(const Command& command, WithRoot with_root, int signal);
    void TellUnheard(Command& command, int64_t now_ms);
    void LookAtEnding(Command& command, int64_t now_ms);
    void RemoveAt(size_t i);
    void Remove(uint64_t n);
    enum class Closes { kIgnore, kTell };
    void Watch(Command& command, Closes closes);
    bool HasWriters(Command& command);

    Runtime& runtime_;
    Vec<Box<Command>> all_;  // by ascending number
    Intervals started_;
    LateSignals late_signals_;
    Fd inotify_;
    int64_t rearm_ms_ = kNever;  // inotify is muted until then
    int64_t poll_ms_ = kNever;   // where there is no inotify
    int64_t heard_ms_ = 0;       // then: when output came last, or a command
};

}  // namespace sbxfs::supervisor
