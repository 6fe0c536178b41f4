// What /proc says of a process that has just called us. Read at OPEN and FLUSH of `cmd` only; procfs is
// memory, not a disk.
#pragma once

#include <sys/types.h>

namespace sbxfs {

struct CallerFacts {
    pid_t group = 0;      // the process the thread belongs to; 0 when it cannot be seen from here
    bool killed = false;  // it is on its way out because of a signal (PF_SIGNALED)
};

// `tid` is fuse_ctx.pid: a thread id, 0 from a foreign pid namespace.
CallerFacts LookUpCaller(pid_t tid);

}  // namespace sbxfs
