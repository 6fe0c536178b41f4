// Commands::Recover: what a supervisor finds in a spool whose last supervisor was killed.

#include "sandbox/supervisor/commands.h"
#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {

long Commands::Recover() {
    Vec<uint64_t> numbers;
    Vec<uint64_t> lost;
    if (const long error = runtime_.spool.ListCommands(&numbers); error < 0) return error;
    for (const uint64_t n : numbers)
        RecoverOne(n, &lost);
    if (!lost.empty()) KillLeftovers(lost);
    for (const uint64_t n : lost) {
        Command& command = *Find(n);
        Ending ending;
        ending.reason.Assign(
            "its supervisor was killed while it ran; what was left of it was killed");
        Finish(command, std::move(ending));
    }
    return 0;
}

void Commands::RecoverOne(uint64_t n, Vec<uint64_t>* lost) {
    all_.Add(MakeBox<Command>());
    Command& command = *all_.Last();
    command.n = n;
    command.has_files = true;
    started_.Add(n);
    runtime_.spool.AppendEvent(&command.tree.mark, n);
    EnsureOpen(command);
    Watch(command, Closes::kIgnore);
    Refresh(command);
    Str storage;
    DoneFields done;
    RunRecord run;
    bool ran = false;
    if (runtime_.spool.ReadOutcome(n, &storage, &done)) {
        command.phase = Phase::kDone;
        command.reason.Assign(done.reason);
        command.cwd.Assign(done.cwd);
        command.done = done;
        command.done.reason = command.reason.text();
        command.done.cwd = command.cwd.text();
    } else if (runtime_.spool.ReadRun(n, &run, &ran) || ran) {
        command.lane = run.lane;
        command.tree.session = run.session;
        // Ticks of another boot mean nothing here, and nothing of it lives.
        command.tree.since = run.boot == runtime_.spool.boot() ? run.since : UINT64_MAX;
        command.tree.before = std::move(run.before);
        lost->Add(n);
    } else {
        Finish(command, NotStarted(ECANCELED, "its supervisor was killed before it started"));
    }
    CloseIfIdle(command);
}

// The shells themselves died with the supervisor (PR_SET_PDEATHSIG); the rest was re-parented to
// init, and is found as orphans are: by the mark, or by the session. Background children of
// finished commands are left alone.
void Commands::KillLeftovers(const Vec<uint64_t>& lost) {
    const int64_t end = sys::MonotonicMs() + 2000;
    size_t left = 1;
    while (left > 0 && sys::MonotonicMs() < end) {
        left = 0;
        for (const uint64_t n : lost) {
            left += KillTree(Find(n)->tree, runtime_.self, WithRoot::kYes, 200);
        }
    }
}

}  // namespace sbxfs::supervisor
