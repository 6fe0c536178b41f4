// What /proc says about processes: one, all, the children of one, the command somebody belongs to.
// Every process there may be hostile: names and environments are data, and anything may vanish
// between two reads.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/bytes.h"

namespace sbxfs::supervisor {

struct Process {
    int pid = 0;
    int parent = 0;
    int session = 0;
    char state = 0;
    uint32_t flags = 0;
    uint32_t threads = 0;
    uint64_t cpu = 0;    // user and system time, in ticks
    uint64_t start = 0;  // in ticks since the boot; with the pid it names a process for good
    char name[16] = {};

    bool IsKernel() const { return (flags & 0x00200000) != 0; }  // PF_KTHREAD
    // Has not called exec since it was forked (PF_FORKNOEXEC).
    bool IsCopy() const { return (flags & 0x00000040) != 0; }
    // A zombie leader whose threads go on still lives.
    bool IsLiving() const { return (state != 'Z' && state != 'X') || threads > 1; }
    View Name() const { return View(static_cast<const char*>(name)); }
};

// A process for good, not just a number.
struct ProcessId {
    int pid = 0;
    uint64_t start = 0;
};

bool Contains(const Vec<ProcessId>& list, const ProcessId& id);

// The text of /proc/PID/stat. Pure. The name may hold blanks and parentheses.
bool ParseStat(View text, Process* to);

bool ReadProcess(int pid, Process* to);
// All of them, by ascending pid, without kernel threads.
void ListProcesses(Vec<Process>* to);
// `known`: some of them of whom it is certain that they have not been waited for; reading who somebody is costs more
// than listing a hundred.
void ListChildren(int pid, const Vec<ProcessId>& known, Vec<ProcessId>* to);
// The binary search for ListProcesses' result; nullptr when it is not there.
const Process* FindProcess(const Vec<Process>& all, int pid);
// The value of SBXFS_EVENT in the environment a process was started with; false when it has none or
// hides it.
bool ReadMark(int pid, Str* mark);
// The clock of Process::start, now.
uint64_t TicksNow();

// What counts as nobody: init, sshd, our own sessions (an attach and the file servers of the same
// connection), this supervisor, the shell `shell`. Somebody else's sftp is somebody. Everything else that lives is counted, for DoneFields::others; `listed`, when
// given, gets them all.
uint32_t CountOthers(const Vec<Process>& all, int self, int shell, Vec<Process>* listed);

}  // namespace sbxfs::supervisor
