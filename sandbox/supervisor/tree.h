// Which processes are a command's: everything that its root started and is still below it, and what
// left by double fork and setsid. Orphans come to the supervisor, since it is a subreaper, and are
// recognised by the mark in their environment (SBXFS_EVENT), or, where a subshell that never called
// exec has none, by the session. What was there before the command, such as a background child of
// an earlier one, is not its tree.
//
// What escapes: a process that clears its environment, calls exec and setsid, and whose parent is
// gone.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/process.h"

namespace sbxfs::supervisor {

struct Tree {
    ProcessId root;         // the persistent shell, or the command's own shell; may be gone
    int session = 0;        // of the root
    uint64_t since = 0;     // ticks: when the command started
    Vec<ProcessId> before;  // children of the shell and of the supervisor that were there already
    Str mark;
};

enum class WithRoot { kNo, kYes };

// Reads the mark of a process: ReadMark, or a table in tests.
using MarkReader = bool (*)(int pid, Str* mark);

// The members among `all` that live. `self` is the supervisor. Pure but for `read_mark`.
void SelectTree(const Vec<Process>& all, const Tree& tree, int self, WithRoot with_root,
                MarkReader read_mark, Vec<ProcessId>* members);

// What lives now, and who of it belongs to a tree.
struct Scan {
    Vec<Process> all;
    Vec<ProcessId> members;

    Scan(const Tree& tree, int self, WithRoot with_root);
};

// Signals every one once. It may come before a program that is about to start: late_signals.h.
void SignalAll(const Vec<ProcessId>& members, int signal);
// SIGKILL, and against fork storms SIGSTOP first, until a scan finds nobody or `budget_ms` is used
// up. The result is how many were left at the last scan; killed zombies do not count.
size_t KillTree(const Tree& tree, int self, WithRoot with_root, int budget_ms);

}  // namespace sbxfs::supervisor
