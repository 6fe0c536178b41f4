// Signals that found a process in the making. A shell's copy of itself that has not called exec yet still has
// the shell's handlers, which take a signal the program would have died of; and a process that was being
// forked while the table was read is not in it. Both are looked at again for a while: the program that
// came of the copy gets the signal, and so does a newborn whose parent has died of it. A newborn
// whose parent lives is that one's answer to the signal, such as what a trap runs.
//
// Owned by Commands; it outlives the command, whose shell may be the first to go.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/runtime.h"
#include "sandbox/supervisor/tree.h"

namespace sbxfs::supervisor {

class LateSignals {
 public:
    // What SelectMissed finds: `parent` of a newborn; a copy that was signalled itself has none.
    struct Missed {
        ProcessId id;
        ProcessId parent;
    };

    // Of those that were signalled (`members`, as they were listed in `before`) and of what lives
    // `after`: who may have missed it. Pure.
    static void SelectMissed(const Vec<Process>& before, const Vec<ProcessId>& members,
                             const Vec<Process>& after, const Vec<ProcessId>& members_after,
                             int self, Vec<Missed>* missed);

    void Add(int signal, int64_t now_ms, Vec<Missed> missed);
    void Tick(int64_t now_ms);
    int64_t NextTick() const { return next_ms_; }

 private:
    struct Late {
        int signal = 0;
        int64_t until_ms = 0;
        Missed who;
    };
    // True when there is nothing more to do for it.
    static bool Look(Late& late);

    Vec<Late> all_;
    int64_t next_ms_ = kNever;
    int64_t step_ms_ = 0;
};

}  // namespace sbxfs::supervisor
