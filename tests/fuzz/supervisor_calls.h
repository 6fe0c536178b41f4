// The kernel of a supervisor under test, in place of raw system calls: sys.h includes this where
// SBXFS_SUPERVISOR_CALLS names it. What it is: machine.h.
#pragma once

#include <asm/unistd.h>

namespace sbxfs::supervisor::sys {

long Call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0);

inline long CloneCall(long flags) {
    return Call(__NR_clone, flags);
}

inline constexpr char kMachine[] = "x86_64";

}  // namespace sbxfs::supervisor::sys
