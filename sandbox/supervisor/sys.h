// The kernel, without libc: thin typed wrappers over raw system calls, each named after its call.
// Results are negative errno on failure. Only calls that Linux 4.4 and aarch64 (no open, fork,
// pipe, dup2, poll...) both have.
#pragma once

#include <linux/errno.h>
#include <linux/eventpoll.h>
#include <linux/fcntl.h>
#include <linux/resource.h>
#include <linux/stat.h>
#include <linux/time.h>
#include <stddef.h>
#include <stdint.h>

#include <asm/fcntl.h>
#include <asm/stat.h>
#include <asm/unistd.h>

#if defined(SBXFS_SUPERVISOR_CALLS)
#include SBXFS_SUPERVISOR_CALLS  // tests/fuzz: a kernel of the test
#elif defined(__x86_64__)
#include "sandbox/supervisor/sys_x86_64.h"
#elif defined(__aarch64__)
#include "sandbox/supervisor/sys_aarch64.h"
#else
#error "sbxfs-supervisor knows x86_64 and aarch64 only"
#endif

namespace sbxfs::supervisor::sys {

inline long AsLong(const void* pointer) {
    return reinterpret_cast<long>(pointer);
}

// Signals, as bit masks of the kernel's 64-bit sigset. linux/signal.h would drag in macros we do
// not want.
enum Signal : int {
    kHup = 1,
    kInt = 2,
    kKill = 9,
    kUsr1 = 10,
    kUsr2 = 12,
    kPipe = 13,
    kTerm = 15,
    kChld = 17,
    kCont = 18,
    kStop = 19,
    kTtou = 22,
    kLastSignal = 64,
};
inline uint64_t SignalBit(int signal) {
    return uint64_t{1} << (signal - 1);
}

// Memory and the process itself.
[[noreturn]] inline void Exit(int code) {
    for (;;)
        Call(__NR_exit_group, code);
}
inline void* Map(size_t size) {
    const long at = Call(__NR_mmap, 0, static_cast<long>(size), 3 /* read, write */,
                         0x22 /* private, anonymous */, -1, 0);
    return at < 0 && at > -4096 ? nullptr : reinterpret_cast<void*>(at);
}
inline void Unmap(void* at, size_t size) {
    Call(__NR_munmap, AsLong(at), static_cast<long>(size));
}
inline void* Remap(void* at, size_t from, size_t to) {
    const long moved = Call(__NR_mremap, AsLong(at), static_cast<long>(from), static_cast<long>(to),
                            1 /* may move */);
    return moved < 0 && moved > -4096 ? nullptr : reinterpret_cast<void*>(moved);
}
inline int GetPid() {
    return static_cast<int>(Call(__NR_getpid));
}
inline int GetPpid() {
    return static_cast<int>(Call(__NR_getppid));
}
inline uint32_t GetUid() {
    return static_cast<uint32_t>(Call(__NR_geteuid));
}
inline uint32_t GetGid() {
    return static_cast<uint32_t>(Call(__NR_getegid));
}
inline long Fork() {
    return CloneCall(kChld);
}
inline long SetSid() {
    return Call(__NR_setsid);
}
inline long Prctl(int option, unsigned long a) {
    return Call(__NR_prctl, option, static_cast<long>(a), 0, 0, 0);
}
inline long Execve(const char* path, const char* const* argv, const char* const* envp) {
    return Call(__NR_execve, AsLong(path), AsLong(argv), AsLong(envp));
}
inline unsigned Umask(unsigned mask) {
    return static_cast<unsigned>(Call(__NR_umask, mask));
}
// Any child when pid is -1. `status` as wait(2) gives it.
inline long Wait(int pid, int* status, int options) {
    return Call(__NR_wait4, pid, AsLong(status), options, 0);
}
inline constexpr int kNoHang = 1;
inline long Kill(int pid, int signal) {
    return Call(__NR_kill, pid, signal);
}
inline long GetLimit(int pid, int which, rlimit64* limit) {
    return Call(__NR_prlimit64, pid, which, 0, AsLong(limit));
}
inline long SetLimit(int which, const rlimit64& limit) {
    return Call(__NR_prlimit64, 0, which, AsLong(&limit), 0);
}
inline long GetRandom(void* to, size_t size) {
    return Call(__NR_getrandom, AsLong(to), static_cast<long>(size), 0);
}
// linux/utsname.h's new_utsname, where only `machine` is wanted.
struct UtsName {
    char field[6][65];
};
inline long Uname(UtsName* name) {
    return Call(__NR_uname, AsLong(name));
}

// Signals.
inline long SetMask(uint64_t mask) {
    return Call(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, AsLong(&mask), 0, sizeof mask);
}
// Only SIG_DFL and SIG_IGN: real handlers would need a restorer, and signalfd does better.
inline long Disposition(int signal, bool ignore) {
    const unsigned long action[4] = {ignore ? 1UL : 0UL, 0, 0, 0};
    return Call(__NR_rt_sigaction, signal, AsLong(action), 0, 8);
}
inline long SignalFd(uint64_t mask) {
    return Call(__NR_signalfd4, -1, AsLong(&mask), sizeof mask, O_CLOEXEC | O_NONBLOCK);
}

// Time.
inline int64_t ClockNs(int clock) {
    __kernel_timespec now{};
    Call(__NR_clock_gettime, clock, AsLong(&now));
    return now.tv_sec * 1000000000 + now.tv_nsec;
}
inline int64_t MonotonicUs() {
    return ClockNs(1) / 1000;
}
inline int64_t MonotonicMs() {
    return ClockNs(1) / 1000000;
}
inline uint64_t WallMs() {
    return static_cast<uint64_t>(ClockNs(0)) / 1000000;
}
inline void SleepMs(int ms) {
    const __kernel_timespec time{ms / 1000, static_cast<long long>(ms % 1000) * 1000000};
    Call(__NR_nanosleep, AsLong(&time), 0);
}

// Files.
inline long OpenAt(int dir, const char* path, int flags, unsigned mode = 0) {
    return Call(__NR_openat, dir, AsLong(path), flags | O_CLOEXEC, mode);
}
// It is closed in any case; of what was written it says whether all of it arrived.
inline long Close(int fd) {
    return fd < 0 ? 0 : Call(__NR_close, fd);
}
inline long Read(int fd, void* to, size_t size) {
    return Call(__NR_read, fd, AsLong(to), static_cast<long>(size));
}
inline long Write(int fd, const void* from, size_t size) {
    return Call(__NR_write, fd, AsLong(from), static_cast<long>(size));
}
inline long ReadAt(int fd, void* to, size_t size, uint64_t offset) {
    return Call(__NR_pread64, fd, AsLong(to), static_cast<long>(size), static_cast<long>(offset));
}
// Of st_mode. <linux/stat.h> leaves them to the C library.
inline constexpr unsigned kTypeMask = 0170000;
inline constexpr unsigned kRegular = 0100000;

inline long StatFd(int fd, struct stat* to) {
    return Call(__NR_fstat, fd, AsLong(to));
}
inline long StatAt(int dir, const char* path, struct stat* to) {
    return Call(__NR_newfstatat, dir, AsLong(path), AsLong(to), AT_SYMLINK_NOFOLLOW);
}
inline long Statx(int dir, const char* path, unsigned mask, struct statx* to) {
    return Call(__NR_statx, dir, AsLong(path), AT_SYMLINK_NOFOLLOW, mask, AsLong(to));
}
inline long StatxFd(int fd, unsigned mask, struct statx* to) {
    constexpr long kEmptyPath = 0x1000;  // AT_EMPTY_PATH
    return Call(__NR_statx, fd, AsLong(""), kEmptyPath, mask, AsLong(to));
}
inline long AccessExecute(const char* path) {
    return Call(__NR_faccessat, AT_FDCWD, AsLong(path), 1 /* X_OK */);
}
inline long MakeDirAt(int dir, const char* path, unsigned mode) {
    return Call(__NR_mkdirat, dir, AsLong(path), mode);
}
inline long MakeFifoAt(int dir, const char* path, unsigned mode) {
    return Call(__NR_mknodat, dir, AsLong(path), 0010000 | mode, 0);
}
inline long UnlinkAt(int dir, const char* path, int flags = 0) {
    return Call(__NR_unlinkat, dir, AsLong(path), flags);
}
inline long RenameAt(int dir, const char* from, const char* to) {
    return Call(__NR_renameat2, dir, AsLong(from), dir, AsLong(to), 0);
}
// Never over what is there: -EEXIST.
inline long MoveAt(int from_dir, const char* from, int to_dir, const char* to) {
    constexpr long kNoReplace = 1;
    return Call(__NR_renameat2, from_dir, AsLong(from), to_dir, AsLong(to), kNoReplace);
}
inline long ReadLinkAt(int dir, const char* path, char* to, size_t size) {
    return Call(__NR_readlinkat, dir, AsLong(path), AsLong(to), static_cast<long>(size));
}
inline long ChangeModeFd(int fd, unsigned mode) {
    return Call(__NR_fchmod, fd, mode);
}
// Whole seconds.
inline long ChangeTimesFd(int fd, int64_t access, int64_t change) {
    const __kernel_timespec times[2] = {{access, 0}, {change, 0}};
    return Call(__NR_utimensat, fd, 0, AsLong(times), 0);
}
inline long SyncFd(int fd) {
    return Call(__NR_fsync, fd);
}
inline long ChangeOwnerFd(int fd, uint32_t uid, uint32_t gid) {
    return Call(__NR_fchown, fd, uid, gid);
}
inline long ChangeOwnerAt(int dir, const char* path, uint32_t uid, uint32_t gid) {
    return Call(__NR_fchownat, dir, AsLong(path), uid, gid, AT_SYMLINK_NOFOLLOW);
}
inline long ChangeDir(const char* path) {
    return Call(__NR_chdir, AsLong(path));
}
inline long ChangeDirFd(int fd) {
    return Call(__NR_fchdir, fd);
}
inline long CurrentDir(char* to, size_t size) {
    return Call(__NR_getcwd, AsLong(to), static_cast<long>(size));
}
inline long Duplicate(int from, int to, int flags = 0) {
    return Call(__NR_dup3, from, to, flags);
}
inline long Control(int fd, int command, long argument) {
    return Call(__NR_fcntl, fd, command, argument);
}
inline long Lock(int fd, int operation) {
    return Call(__NR_flock, fd, operation);
}
inline long Ioctl(int fd, unsigned long request, void* argument) {
    return Call(__NR_ioctl, fd, static_cast<long>(request), AsLong(argument));
}
inline long Allocate(int fd, int mode, uint64_t offset, uint64_t length) {
    return Call(__NR_fallocate, fd, mode, static_cast<long>(offset), static_cast<long>(length));
}
inline long ListDir(int fd, void* to, size_t size) {
    return Call(__NR_getdents64, fd, AsLong(to), static_cast<long>(size));
}
inline long Pipe(int ends[2], int flags) {
    return Call(__NR_pipe2, AsLong(ends), flags);
}

// Waiting.
inline long EpollCreate() {
    return Call(__NR_epoll_create1, O_CLOEXEC);
}
inline long EpollControl(int epoll, int operation, int fd, uint32_t events, uint64_t tag) {
    epoll_event event{};
    event.events = events;
    event.data = tag;
    return Call(__NR_epoll_ctl, epoll, operation, fd, AsLong(&event));
}
inline long EpollWait(int epoll, epoll_event* events, int count, int timeout_ms) {
    return Call(__NR_epoll_pwait, epoll, AsLong(events), count, timeout_ms, 0, 8);
}
inline long InotifyCreate() {
    return Call(__NR_inotify_init1, O_CLOEXEC | O_NONBLOCK);
}
inline long InotifyAdd(int fd, const char* path, uint32_t mask) {
    return Call(__NR_inotify_add_watch, fd, AsLong(path), mask);
}
inline long InotifyRemove(int fd, int watch) {
    return Call(__NR_inotify_rm_watch, fd, watch);
}

}  // namespace sbxfs::supervisor::sys
