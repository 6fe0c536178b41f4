// The kernel for scripts/coverage.sh: the supervisor's program as an ordinary one, whose counters are written before it
// ends or becomes another program.
#pragma once

#include <asm/unistd.h>

extern "C" {
long syscall(long number, ...) noexcept;
int* __errno_location() noexcept __attribute__((const));
void __gcov_dump();
void __gcov_reset();
}

namespace sbxfs::supervisor::sys {

inline long Call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                 long f = 0) {
    // Or waits for long, where it may be killed. Another user may not write them.
    constexpr long kHere = -100;
    const bool waits = number == __NR_epoll_pwait && (d < 0 || d > 200);
    if ((waits || number == __NR_exit_group || number == __NR_execve) &&
        syscall(__NR_faccessat, kHere, SBXFS_COVERAGE_DIR, 2 /* W_OK */) == 0) {
        __gcov_dump();
        __gcov_reset();
    }
    const long result = syscall(number, a, b, c, d, e, f);
    return result < 0 ? -*__errno_location() : result;
}

inline long CloneCall(long flags) {
    return Call(__NR_clone, flags);
}

#if defined(__aarch64__)
inline constexpr char kMachine[] = "aarch64";
#else
inline constexpr char kMachine[] = "x86_64";
#endif

}  // namespace sbxfs::supervisor::sys
