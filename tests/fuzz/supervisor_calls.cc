#include "tests/fuzz/supervisor_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <string>
#include <utility>

#include "base/check.h"

namespace sbxfs::fuzz {

MadeUp made_up;

namespace {

std::string directory;
int current = -1;                       // what the last fchdir(2) named
std::deque<int> living;                 // pids
std::deque<std::pair<int, int>> ended;  // pid, wait status; not waited for yet

const char* PathOf(long argument) {
    return reinterpret_cast<const char*>(argument);
}

// The processes of this machine are none of the supervisor's under test.
bool IsProc(const char* path) {
    return strncmp(path, "/proc", 5) == 0 && (path[5] == '\0' || path[5] == '/');
}

bool IsOurs(const char* path) {
    return path[0] != '/' || strncmp(path, directory.c_str(), directory.size()) == 0;
}

long Real(long number, long a, long b, long c, long d, long e, long f) {
    const long result = syscall(number, a, b, c, d, e, f);
    return result < 0 ? -errno : result;
}

}  // namespace

void ResetCalls(const char* where) {
    (void)signal(SIGPIPE, SIG_IGN);  // as the supervisor has it
    made_up = MadeUp();
    made_up.now_ns = 1'000'000'000'000;
    made_up.next_pid = kFirstPid;
    directory = where;
    current = -1;
    living.clear();
    ended.clear();
}

bool EndOneProcess(int wait_status) {
    if (living.empty()) return false;
    ended.emplace_back(living.front(), wait_status);
    living.pop_front();
    return true;
}

const char* EmptyDirectory() {
    namespace fs = std::filesystem;
    static const std::string path = [] {
        std::string name = fs::is_directory("/dev/shm") ? "/dev/shm" : "/tmp";
        name += "/sbxfs-fuzz-XXXXXX";
        CHECK(mkdtemp(name.data()) != nullptr);
        static std::string kept = name;
        (void)std::atexit([] {
            std::error_code ignored;
            fs::remove_all(kept, ignored);
        });
        return name;
    }();
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(path))
        fs::remove_all(entry.path(), ignored);
    return path.c_str();
}

int OpenDirectory(const char* path) {
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int NewEpoll() {
    return epoll_create1(EPOLL_CLOEXEC);
}

int LookAtEpoll(int epoll, EpollNews* to, int most) {
    epoll_event events[16];
    const int count = epoll_wait(epoll, events, std::min(most, 16), 0);
    for (int i = 0; i < count; ++i)
        to[i] = {events[i].events, events[i].data.u64};
    return count;
}

void SocketPair(int ends[2]) {
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
}

long Put(int fd, const char* bytes, unsigned long size) {
    return send(fd, bytes, size, MSG_NOSIGNAL);
}

long Get(int fd, char* to, unsigned long size) {
    const long got = read(fd, to, size);
    return got < 0 ? 0 : got;
}

void CloseFd(int fd) {
    close(fd);
}

int DuplicateFd(int fd) {
    return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

long WaitForOne(int* status) {
    return supervisor::sys::Call(SYS_wait4, -1, reinterpret_cast<long>(status), 1);
}

void PlantAt(Plant how, const char* path, const char* bytes, unsigned long size) {
    CHECK(IsOurs(path));
    switch (how) {
        case Plant::kFile:
        case Plant::kAppend: {
            const int flags = how == Plant::kFile ? O_CREAT | O_TRUNC : O_APPEND;
            const int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
            if (fd < 0) return;
            (void)!write(fd, bytes, size);
            close(fd);
            return;
        }
        case Plant::kTruncate:
            (void)!truncate(path, static_cast<off_t>(size));
            return;
        case Plant::kDirectory:
            (void)mkdir(path, 0700);
            return;
        case Plant::kLink:
            (void)!symlink(std::string(bytes, size).c_str(), path);
            return;
        case Plant::kRemove: {
            std::error_code ignored;
            std::filesystem::remove_all(path, ignored);
            return;
        }
    }
}

int OpenDescriptors() {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        (void)entry;
        ++count;
    }
    return count;
}

}  // namespace sbxfs::fuzz

namespace sbxfs::supervisor::sys {

using namespace sbxfs::fuzz;  // NOLINT(google-build-using-namespace)

long Call(long number, long a, long b, long c, long d, long e, long f) {
    switch (number) {
        case SYS_clone:
            if (made_up.fork_fails) return -EAGAIN;
            living.push_back(made_up.next_pid);
            return made_up.next_pid++;
        case SYS_wait4: {
            if (ended.empty()) return living.empty() ? -ECHILD : 0;
            const auto [pid, status] = ended.front();
            ended.pop_front();
            *reinterpret_cast<int*>(b) = status;
            return pid;
        }
        case SYS_kill: {
            const int pid = static_cast<int>(a);
            CHECK(b >= 0 && b <= 64);
            if (pid == 1 || pid == -1) {
                ++made_up.kills_of_all;
                return 0;
            }
            CHECK(pid >= kFirstPid &&
                  pid < made_up.next_pid);  // a process that is not of the spool
            ++made_up.kills;
            for (std::size_t i = 0; b == 9 && i < living.size(); ++i) {
                if (living[i] != pid) continue;
                living.erase(living.begin() + static_cast<long>(i));
                ended.emplace_back(pid, 9);
                return 0;
            }
            return 0;
        }
        case SYS_reboot:
            ++made_up.power_offs;
            return -EPERM;
        case SYS_clock_gettime: {
            auto* to = reinterpret_cast<long long*>(b);
            made_up.now_ns += 1000;  // loops that look at the clock end
            to[0] = made_up.now_ns / 1'000'000'000;
            to[1] = made_up.now_ns % 1'000'000'000;
            return 0;
        }
        case SYS_nanosleep: {
            const auto* time = reinterpret_cast<const long long*>(a);
            made_up.now_ns += time[0] * 1'000'000'000 + time[1];
            return 0;
        }
        case SYS_getrandom:
            memset(reinterpret_cast<void*>(a), 0x5a, static_cast<std::size_t>(b));
            return b;
        case SYS_getpid:
            return kFirstPid - 1;
        case SYS_fchdir:
            current = static_cast<int>(a);
            return 0;
        case SYS_chdir:
        case SYS_prctl:
        case SYS_prlimit64:
        case SYS_rt_sigprocmask:
        case SYS_rt_sigaction:
        case SYS_sync:
            return 0;
        case SYS_getcwd: {
            const std::string link = "/proc/self/fd/" + std::to_string(current);
            const long length =
                readlink(link.c_str(), reinterpret_cast<char*>(a), static_cast<std::size_t>(b) - 1);
            if (length < 0) return -errno;
            reinterpret_cast<char*>(a)[length] = '\0';
            return length + 1;
        }
        case SYS_faccessat:
        case SYS_openat:
        case SYS_newfstatat:
        case SYS_statx:
        case SYS_readlinkat:
            if (IsProc(PathOf(b))) return -ENOENT;
            if (number == SYS_openat && (c & (O_CREAT | O_WRONLY | O_RDWR)) != 0) {
                CHECK(IsOurs(PathOf(b)) || strcmp(PathOf(b), "/dev/null") == 0);
            }
            break;
        case SYS_mkdirat:
        case SYS_mknodat:
        case SYS_unlinkat:
        case SYS_fchownat:
            CHECK(IsOurs(PathOf(b)));  // a change outside the spool
            break;
        case SYS_renameat2:
            CHECK(IsOurs(PathOf(b)) && IsOurs(PathOf(d)));
            break;
        case SYS_fchmod:
        case SYS_fchown:
        case SYS_close:
        case SYS_read:
        case SYS_write:
        case SYS_pread64:
        case SYS_fstat:
        case SYS_fcntl:
        case SYS_flock:
        case SYS_ioctl:
        case SYS_fallocate:
        case SYS_getdents64:
        case SYS_pipe2:
        case SYS_epoll_create1:
        case SYS_epoll_ctl:
        case SYS_epoll_pwait:
        case SYS_inotify_init1:
        case SYS_inotify_add_watch:
        case SYS_inotify_rm_watch:
        case SYS_geteuid:
        case SYS_getegid:
        case SYS_mmap:
        case SYS_munmap:
        case SYS_uname:
            break;
        default:
            (void)std::fprintf(stderr, "system call %ld\n", number);
            CHECK(false);  // nobody has thought of it: it may do harm here
    }
    return Real(number, a, b, c, d, e, f);
}

}  // namespace sbxfs::supervisor::sys
