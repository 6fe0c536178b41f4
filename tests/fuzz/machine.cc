#include "tests/fuzz/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/check.h"
#include "sandbox/supervisor/process.h"
#include "tests/fuzz/hosted_heap.h"
#include "tests/fuzz/supervisor_calls.h"

namespace sbxfs::fuzz {

MadeUp made_up;

namespace {

namespace fs = std::filesystem;

// What belongs to the process that runs.
struct Process {
    int current = -1;  // what the last fchdir(2) named; -1: /
    std::set<int> open;
    std::map<int, int>
        proc_lists;  // directories of /proc: 0 of all, -1 /proc/self/fd, or a process's fd
    std::set<int> listed;
    std::vector<std::pair<int, int>> pipes;                   // since the last fork(2): both ends
    int signals = -1;                                         // our end of its signalfd
    int changes = -1;                                         // our end of its inotify
    std::map<int, std::pair<std::string, unsigned>> watches;  // paths and masks of inotify
    int next_watch = 1;
    unsigned long long last_run = 0;  // the command whose `run` it wrote last
    int busy = 0;                     // epoll_wait(2) with news, one after the other
    bool ends = false;                // it is being taken apart
};
Process process;
std::size_t left_open = 0;
int listener = -1;  // where on_relay's end comes from

const char* PathOf(long argument) {
    return reinterpret_cast<const char*>(argument);
}

long Real(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
    const long result = syscall(number, a, b, c, d, e, f);
    return result < 0 ? -errno : result;
}

bool StartsWith(std::string_view text, std::string_view prefix) {
    return text.substr(0, prefix.size()) == prefix;
}

bool IsOurs(const char* path) {
    if (path[0] != '/' || path == Directory()) return true;
    return StartsWith(path, Directory() + "/") && strstr(path, "/..") == nullptr;
}

// Not standard error, whatever that is here.
bool IsRegular(long fd) {
    struct stat found {};
    return fd > 2 && fstat(static_cast<int>(fd), &found) == 0 && S_ISREG(found.st_mode);
}

// The errno with which this call may fail so; 0: it cannot.
long FailureOf(FaultKind kind, long number, long a, long c) {
    const bool opens = number == SYS_openat;
    const bool makes = number == SYS_mkdirat || number == SYS_mknodat || number == SYS_renameat2;
    // Only what was written can be lost by closing.
    const bool ends = number == SYS_close && IsRegular(a) &&
                      (fcntl(static_cast<int>(a), F_GETFL) & O_ACCMODE) == O_WRONLY;
    const bool moves = number == SYS_read || number == SYS_write || number == SYS_pread64;
    switch (kind) {
        case FaultKind::kNone:
            return 0;
        case FaultKind::kDiskFull:
            return (opens && (c & O_CREAT) != 0) || makes || ends || number == SYS_fsync ||
                           (number == SYS_write && IsRegular(a))
                       ? ENOSPC
                       : 0;
        case FaultKind::kNoFiles:
            return opens || number == SYS_pipe2 || number == SYS_epoll_create1 ||
                           number == SYS_inotify_init1 || number == SYS_socket ||
                           number == SYS_accept4 || number == SYS_signalfd4 ||
                           (number == SYS_fcntl && c == F_DUPFD_CLOEXEC)
                       ? EMFILE
                       : 0;
        case FaultKind::kNoMemory:
            if (number == SYS_clone) return EAGAIN;
            if (number == SYS_inotify_add_watch) return ENOSPC;
            return opens || (number == SYS_epoll_ctl && c == EPOLL_CTL_ADD) || number == SYS_pipe2
                       ? ENOMEM
                       : 0;
        case FaultKind::kBroken:
            return opens || makes || (moves && IsRegular(a)) || number == SYS_fstat ||
                           number == SYS_newfstatat || number == SYS_statx ||
                           number == SYS_getdents64 || number == SYS_unlinkat ||
                           number == SYS_readlinkat || number == SYS_fchmod ||
                           number == SYS_utimensat || number == SYS_fsync || ends ||
                           number == SYS_fchown || number == SYS_fallocate || number == SYS_bind ||
                           number == SYS_listen || number == SYS_connect || number == SYS_fchdir ||
                           number == SYS_getcwd || number == SYS_getrandom
                       ? EIO
                       : 0;
        case FaultKind::kInterrupted:
            return moves || number == SYS_epoll_pwait || number == SYS_recvmsg ? EINTR : 0;
        case FaultKind::kShort:
            return moves && c > 8 ? 1 : 0;  // what a pipe takes at once it gives at once
        case FaultKind::kKill:
            return number != SYS_close && number != SYS_clock_gettime ? 1 : 0;
    }
    return 0;
}

// Whether what was arranged happens to this call.
bool Fails(long failure) {
    if (failure == 0 || process.ends) return false;
    const long at = made_up.could_fail++;
    if (at != made_up.fault_at && !(made_up.fault_lasts && at > made_up.fault_at)) return false;
    ++made_up.failed;
    return true;
}

void TellChildEnded() {
    if (process.signals < 0) return;
    char info[128] = {};
    info[0] = SIGCHLD;
    (void)!write(process.signals, info, sizeof info);
}

// inotify is made up too: the end of a real one waits for the kernel's grace periods.
void TellChanged(const std::string& path, unsigned mask) {
    for (const auto& [watch, what] : process.watches) {
        if (what.first != path || (what.second & mask) == 0) continue;
        inotify_event event{};
        event.wd = watch;
        event.mask = what.second & mask;
        (void)!write(process.changes, &event, sizeof event);
    }
}

int Keep(long fd) {
    if (fd >= 0) process.open.insert(static_cast<int>(fd));
    return static_cast<int>(fd);
}

long FileOf(std::string_view text) {
    const int fd = memfd_create("made-up", MFD_CLOEXEC);
    CHECK(fd >= 0);
    (void)!write(fd, text.data(), text.size());
    lseek(fd, 0, SEEK_SET);
    return Keep(fd);
}

MadeUpProcess* Living(int pid) {
    const auto found = made_up.processes.find(pid);
    return found == made_up.processes.end() ? nullptr : &found->second;
}

std::string StatOf(int pid, MadeUpProcess& one) {
    const unsigned flags = one.flags | (one.becomes_copy ? 0x40U : 0U);
    char text[400];
    (void)std::snprintf(text, sizeof text,
                        "%d (%s) %c %d %d %d 0 -1 %u 1 0 0 0 %llu 0 0 0 20 0 %u 0 %llu 1 1\n", pid,
                        one.name.c_str(), one.state, one.parent, pid, one.session, flags, one.cpu,
                        one.threads, one.start);
    return text;
}

// What is below /proc; -ENOENT where nothing is.
long OpenProc(std::string_view path, int flags) {
    path.remove_prefix(5);
    if (path.empty() || path == "/self/fd") {
        const int fd = open(Directory().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        process.proc_lists[fd] = path.empty() ? 0 : -1;
        process.listed.erase(fd);
        return Keep(fd);
    }
    if (path == "/sys/kernel/random/boot_id") return FileOf(made_up.boot_id);
    if (path == "/self/oom_score_adj") return FileOf((flags & O_TRUNC) != 0 ? "" : "0\n");
    if (StartsWith(path, "/self/fd/")) {
        const std::string real = "/proc" + std::string(path);
        return Keep(Real(SYS_openat, AT_FDCWD, reinterpret_cast<long>(real.c_str()), flags));
    }
    char* rest = nullptr;
    const int pid = static_cast<int>(std::strtol(path.data() + 1, &rest, 10));
    const std::string what(rest);
    if (pid == 1) {
        if (what == "/stat")
            return FileOf("1 (" + made_up.init_name +
                          ") S 0 1 1 0 -1 0 1 0 0 0 0 0 0 0 20 0 1 0 1 1\n");
        if (what == "/environ" && !made_up.init_environ.empty())
            return FileOf(made_up.init_environ);
        return what == "/environ" ? -EACCES : -ENOENT;
    }
    if (what == "/task/" + std::to_string(pid) + "/children") {
        if (!made_up.has_children_files) return -ENOENT;
        std::string text;
        for (const auto& [child, one] : made_up.processes)
            if (one.parent == pid) text += std::to_string(child) + " ";
        return FileOf(text);
    }
    MadeUpProcess* one = Living(pid);
    if (one == nullptr) return -ENOENT;
    if (what == "/stat") return FileOf(StatOf(pid, *one));
    if (what == "/environ") return FileOf(one->environ);
    if (what == "/cmdline") return FileOf(one->cmdline);
    if (what == "/fd") {
        const int fd = open(Directory().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        process.proc_lists[fd] = pid;
        process.listed.erase(fd);
        return Keep(fd);
    }
    return -ENOENT;
}

// Of what OpenProc made; the kernel lists pids in ascending order.
long ListProc(int fd, void* to, std::size_t size) {
    if (!process.listed.insert(fd).second) return 0;
    struct Entry {
        unsigned long long inode;
        long long offset;
        unsigned short length;
        unsigned char type;
        char name[29];
    };
    static_assert(sizeof(Entry) == 48);
    std::vector<std::string> names{".", "..", "no-number"};
    const int which = process.proc_lists[fd];
    if (which == 0) {
        names.emplace_back("1");
        for (const auto& [pid, one] : made_up.processes)
            names.push_back(std::to_string(pid));
    } else if (which == -1) {
        for (const int open : process.open)
            names.push_back(std::to_string(open));
    } else {
        names.emplace_back("5");
    }
    char* at = static_cast<char*>(to);
    std::size_t left = size;
    for (const std::string& name : names) {
        if (left < sizeof(Entry)) break;  // the last ones are not seen
        Entry entry{};
        entry.inode = std::strtoull(name.c_str(), nullptr, 10) + 5;
        entry.length = sizeof(Entry);
        memcpy(&entry.name[0], name.c_str(), name.size() + 1);
        memcpy(at, &entry, sizeof entry);
        at += sizeof entry;
        left -= sizeof entry;
    }
    return at - static_cast<char*>(to);
}

long ReadLink(int dir, std::string_view path, char* to, std::size_t size) {
    std::string target;
    const auto list = process.proc_lists.find(dir);
    if (list != process.proc_lists.end() && list->second > 0) {
        const MadeUpProcess* one = Living(list->second);
        target = one == nullptr ? "" : one->holds;
    } else if (StartsWith(path, "/proc/")) {
        char* rest = nullptr;
        const std::string copy(path);
        const MadeUpProcess* one =
            Living(static_cast<int>(std::strtol(copy.c_str() + 6, &rest, 10)));
        const std::string_view what(rest);
        if (one != nullptr && what == "/cwd") target = one->cwd;
        if (one != nullptr && what == "/fd/0") {
            target = !one->stdin_link.empty() || one->input < 0
                         ? one->stdin_link
                         : "pipe:[" + std::to_string(InodeOf(one->input)) + "]";
        }
    } else if (const auto found = made_up.links.find(std::string(path));
               found != made_up.links.end()) {
        target = found->second;
    } else {
        return -EINVAL;
    }
    if (target.empty()) return -ENOENT;
    const std::size_t length = std::min(size, target.size());
    memcpy(to, target.data(), length);
    return static_cast<long>(length);
}

long OpenFile(long dir, const char* path, long flags, long mode) {
    if (strncmp(path, "/proc", 5) == 0 && (path[5] == '/' || path[5] == '\0')) {
        return OpenProc(path, static_cast<int>(flags));
    }
    if (strcmp(path, "/etc/passwd") == 0 || strcmp(path, "/etc/group") == 0) {
        const std::string& text = path[5] == 'p' ? made_up.passwd : made_up.group;
        return text.empty() ? -ENOENT : FileOf(text);
    }
    if ((flags & (O_CREAT | O_WRONLY | O_RDWR)) != 0) {
        // The daemon may have files made anywhere.
        if ((flags & O_EXCL) != 0 && path[0] == '/' && !IsOurs(path)) return -EROFS;
        CHECK(IsOurs(path) || strcmp(path, "/dev/null") == 0);  // a change outside the spool
    }
    const std::string_view name(path);
    const std::string& closed = made_up.unopenable;
    if (!closed.empty() && (flags & O_CREAT) == 0 && name.size() >= closed.size() &&
        name.substr(name.size() - closed.size()) == closed) {
        return -EMFILE;
    }
    if (name.size() > 4 && name.substr(name.size() - 4) == "/run" && (flags & O_CREAT) != 0) {
        process.last_run = std::strtoull(path, nullptr, 10);
    }
    return Keep(Real(SYS_openat, dir, reinterpret_cast<long>(path), flags, mode));
}

long Fork() {
    if (made_up.fork) return made_up.fork();
    if (made_up.fork_fails) return -EAGAIN;
    const int pid = made_up.next_pid++;
    MadeUpProcess one;
    one.session = pid;
    one.start = static_cast<unsigned long long>(made_up.now_ns / 10'000'000);
    CHECK(process.pipes.empty() || process.pipes.size() <= 2);
    if (!process.pipes.empty()) {
        const int tells = process.pipes.back().second;
        if (made_up.exec_step >= 0) {
            const int failure[2] = {made_up.exec_step, made_up.exec_error};
            (void)!write(tells, failure, sizeof failure);
        }
        if (!made_up.child_says.empty()) {
            (void)!write(tells, made_up.child_says.data(), made_up.child_says.size());
        }
        if (made_up.exec_held) one.exec = fcntl(tells, F_DUPFD_CLOEXEC, 0);
    }
    if (process.pipes.size() == 2) {
        one.input = fcntl(process.pipes.front().first, F_DUPFD_CLOEXEC, 0);
        fcntl(one.input, F_SETFL, O_NONBLOCK);
    } else if (process.pipes.size() == 1) {
        one.n = process.last_run;
        if (made_up.exec_step < 0) ++made_up.runs[one.n];
    }
    // A copy that tells nobody of exec(2) puts a file on the disk.
    const bool saves = process.pipes.empty();
    if (saves) one.name = "sbxfs-superviso";
    process.pipes.clear();
    made_up.processes.emplace(pid, std::move(one));
    if (saves) {
        if (!made_up.saves_held) EndProcess(pid, made_up.save_status);
    } else if (made_up.exec_step >= 0) {
        EndProcess(pid, 127 << 8);
    }
    return pid;
}

long CloseOne(int fd) {
    if (process.open.erase(fd) == 0) return -EBADF;
    process.proc_lists.erase(fd);
    for (auto& pipe : process.pipes) {
        if (pipe.first != fd && pipe.second != fd) continue;
        process.pipes.erase(process.pipes.begin() + (&pipe - process.pipes.data()));
        break;
    }
    return Real(SYS_close, fd);
}

long Signal(int pid, int signal) {
    CHECK(signal >= 0 && signal <= 64);
    if (pid == 1) return ++made_up.kills_of_init, 0;
    if (pid == -1) return ++made_up.kills_of_all, 0;
    CHECK(pid >= kFirstPid && pid < made_up.next_pid);  // a process that is not of the spool
    ++made_up.kills;
    MadeUpProcess* one = Living(pid);
    if (one == nullptr) return -ESRCH;
    if (signal == SIGSTOP) one->state = 'T';
    if (signal == SIGCONT) one->state = 'S';
    const bool ends =
        signal == SIGKILL ||
        (!one->stubborn && one->input < 0 &&
         (signal == SIGTERM || signal == SIGINT || signal == SIGHUP || signal == SIGUSR1));
    if (ends) EndProcess(pid, signal);
    return 0;
}

long WaitForNews(long epoll, long events, long most, long timeout) {
    for (int looks = 0;; ++looks) {
        CHECK(looks < 100000);
        const long count = Real(SYS_epoll_pwait, epoll, events, most, 0, 0, 8);
        if (count > 0) {
            CHECK(++process.busy < 3000);  // it never comes to rest
            return count;
        }
        if (count < 0) return count;
        process.busy = 0;
        const bool tracking = TrackBlocks(false);
        const bool more = made_up.idle && made_up.idle(static_cast<int>(timeout));
        TrackBlocks(tracking);
        if (!more) throw Stopped();
        // Time may have passed.
        const long again = Real(SYS_epoll_pwait, epoll, events, most, 0, 0, 8);
        if (again != 0 || timeout >= 0) return again;
    }
}

long Rename(long from_dir, const char* from, long to_dir, const char* to, long flags) {
    CHECK(from_dir != AT_FDCWD || from[0] == '/');  // a change where the test runs
    CHECK(to_dir != AT_FDCWD || to[0] == '/');
    // The daemon may have anything renamed.
    if (!IsOurs(from) || !IsOurs(to)) return -EROFS;
    return Real(SYS_renameat2, from_dir, reinterpret_cast<long>(from), to_dir,
                reinterpret_cast<long>(to), flags);
}

// bind(2) and connect(2) by a name in the current directory, which is not really ours.
long OfSocket(long number, long fd, long address) {
    auto given = *reinterpret_cast<const sockaddr_un*>(address);
    sockaddr_un real{};
    real.sun_family = AF_UNIX;
    const std::string path = "/proc/self/fd/" + std::to_string(process.current) + "/" +
                             static_cast<const char*>(given.sun_path);
    CHECK(path.size() < sizeof real.sun_path);
    memcpy(&real.sun_path[0], path.c_str(), path.size() + 1);
    return Real(number, fd, reinterpret_cast<long>(&real), sizeof real);
}

long Receive(long fd, long message, long flags) {
    const long got = Real(SYS_recvmsg, fd, message, flags);
    auto* header = reinterpret_cast<msghdr*>(message);
    if (got < 0) return got;
    for (cmsghdr* one = CMSG_FIRSTHDR(header); one != nullptr; one = CMSG_NXTHDR(header, one)) {
        if (one->cmsg_type != SCM_RIGHTS) continue;
        for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= one->cmsg_len; at += sizeof(int)) {
            int received = -1;
            memcpy(&received, reinterpret_cast<char*>(one) + at, sizeof received);
            Keep(received);
        }
    }
    return got;
}

// The other end is `ours`.
long NewPipe(int* ours) {
    int ends[2];
    CHECK(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    CloseFd(*ours);
    *ours = ends[1];
    return Keep(ends[0]);
}

long AddWatch(const char* path, long mask) {
    if (!IsThere(path)) return -ENOENT;
    for (auto& [watch, what] : process.watches) {
        if (what.first != path) continue;
        what.second = static_cast<unsigned>(mask);
        return watch;
    }
    process.watches[process.next_watch] = {path, static_cast<unsigned>(mask)};
    return process.next_watch++;
}

bool Refuses(const char* name) {
    return made_up.refuses == name;
}

// The program remembers the kernel's threads in a static, which is no process's here.
void ForgetKernelThreads() {
    const FaultKind fault = std::exchange(made_up.fault, FaultKind::kNone);
    std::map<int, MadeUpProcess> none;
    made_up.processes.swap(none);
    {
        supervisor::Vec<supervisor::Process> all;
        supervisor::ListProcesses(&all);
    }
    made_up.processes.swap(none);
    made_up.fault = fault;
}

}  // namespace

const char* NameOf(FaultKind kind) {
    switch (kind) {
        case FaultKind::kNone:
            return "nothing fails";
        case FaultKind::kDiskFull:
            return "no space";
        case FaultKind::kNoFiles:
            return "no descriptors";
        case FaultKind::kNoMemory:
            return "no memory";
        case FaultKind::kBroken:
            return "an I/O error";
        case FaultKind::kInterrupted:
            return "an interruption";
        case FaultKind::kShort:
            return "a short transfer";
        case FaultKind::kKill:
            return "a kill";
    }
    return "";
}

const std::string& Directory() {
    static const std::string path = [] {
        std::string name = fs::is_directory("/dev/shm") ? "/dev/shm" : "/tmp";
        name += "/sbxfs-machine-XXXXXX";
        CHECK(mkdtemp(name.data()) != nullptr);
        static std::string kept = name;
        (void)std::atexit([] {
            std::error_code ignored;
            fs::remove_all(kept, ignored);
        });
        return name;
    }();
    return path;
}

void NewMachine() {
    (void)signal(SIGPIPE, SIG_IGN);  // as the supervisor has it
    for (auto& [pid, one] : made_up.processes) {
        CloseFd(one.input);
        CloseFd(one.exec);
    }
    made_up = MadeUp();
    listener = -1;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(Directory()))
        fs::remove_all(entry.path(), ignored);
}

int RunProcess(const std::function<void()>& program) {
    int code = -1;
    ForgetKernelThreads();
    TrackBlocks(true);
    try {
        program();
        code = 0;
    } catch (const Exited& exited) {
        code = exited.code;
    } catch (const Stopped&) {
        code = -1;
    }
    TrackBlocks(false);
    process.ends = false;
    ForgetKernelThreads();
    ReleaseTracked();
    left_open = process.open.size();
    for (const int fd : process.open)
        close(fd);
    CloseFd(process.signals);
    CloseFd(process.changes);
    process = Process();
    return code;
}

int OpenForIt(const char* path, int flags) {
    return Keep(open(path, flags | O_CLOEXEC));
}

int GiveToIt(int fd) {
    return Keep(fd);
}

std::size_t OpenOfIt() {
    return process.open.size();
}

std::size_t LeftOpen() {
    return left_open;
}

void EndProcess(int pid, int wait_status) {
    const auto found = made_up.processes.find(pid);
    if (found == made_up.processes.end()) return;
    const bool child = found->second.parent == kSelf;
    CloseFd(found->second.input);
    CloseFd(found->second.exec);
    made_up.processes.erase(found);
    for (auto& [other, one] : made_up.processes)
        if (one.parent == pid) one.parent = kSelf;  // a subreaper
    if (!child) return;
    made_up.ended.emplace_back(pid, wait_status);
    TellChildEnded();
}

bool EndOldest(int wait_status) {
    for (const auto& [pid, one] : made_up.processes) {
        if (one.parent != kSelf) continue;
        EndProcess(pid, wait_status);
        return true;
    }
    return false;
}

void LetExec(int pid) {
    if (MadeUpProcess* one = Living(pid)) {
        CloseFd(one->exec);
        one->exec = -1;
    }
}

void Terminate() {
    char info[128] = {};
    info[0] = SIGTERM;
    (void)!write(process.signals, info, sizeof info);
}

std::string TakeInput(MadeUpProcess& one) {
    std::string text;
    char page[4096];
    while (one.input >= 0) {
        const long got = read(one.input, page, sizeof page);
        if (got <= 0) break;
        text.append(page, static_cast<std::size_t>(got));
    }
    return text;
}

unsigned long long InodeOf(int fd) {
    struct stat found {};
    return fstat(fd, &found) == 0 ? found.st_ino : 0;
}

void SocketPair(int ends[2]) {
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
}

int HandOver(const std::string& socket_path, const std::vector<int>& fds, char byte) {
    const int relay = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    memcpy(&address.sun_path[0], socket_path.c_str(), socket_path.size() + 1);
    if (connect(relay, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
        close(relay);
        return -1;
    }
    if (byte == '\0') return relay;  // says nothing
    iovec bytes{&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
        memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
    }
    (void)sendmsg(relay, &message, MSG_NOSIGNAL);
    return relay;
}

int Listen(const std::string& socket_path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    memcpy(&address.sun_path[0], socket_path.c_str(), socket_path.size() + 1);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    CHECK(listen(listener, 16) == 0);
    return listener;
}

bool HasEnded(int fd) {
    char byte = 0;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

long Put(int fd, std::string_view bytes) {
    return send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

long Get(int fd, char* to, unsigned long size) {
    const long got = read(fd, to, size);
    return got < 0 ? 0 : got;
}

void CloseFd(int fd) {
    if (fd >= 0) close(fd);
}

void PlantAt(Plant how, const std::string& path, std::string_view bytes, unsigned long size) {
    CHECK(IsOurs(path.c_str()));
    switch (how) {
        case Plant::kFile:
        case Plant::kAppend: {
            const int flags = how == Plant::kFile ? O_CREAT | O_TRUNC : O_APPEND;
            const int fd =
                open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
            if (fd < 0) return;
            (void)!write(fd, bytes.data(), bytes.size());
            close(fd);
            TellChanged(path, IN_MODIFY | IN_CLOSE_WRITE);
            return;
        }
        case Plant::kTruncate:
            (void)!truncate(path.c_str(), static_cast<off_t>(size));
            TellChanged(path, IN_MODIFY);
            return;
        case Plant::kDirectory:
            (void)mkdir(path.c_str(), 0700);
            return;
        case Plant::kLink:
            (void)!symlink(std::string(bytes).c_str(), path.c_str());
            return;
        case Plant::kRemove: {
            std::error_code ignored;
            fs::remove_all(path, ignored);
            return;
        }
    }
}

std::string ReadPlace(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

unsigned long long InodeAt(const std::string& path) {
    struct stat found {};
    return lstat(path.c_str(), &found) == 0 ? found.st_ino : 0;
}

}  // namespace sbxfs::fuzz

namespace sbxfs::supervisor::sys {

using namespace sbxfs::fuzz;  // NOLINT(google-build-using-namespace)

long Call(long number, long a, long b, long c, long d, long e, long f) {
    if (number == SYS_exit_group) {
        if (made_up.on_exit) made_up.on_exit(static_cast<int>(a));
        throw Exited{static_cast<int>(a)};
    }
    if (made_up.fault != FaultKind::kNone) {
        const long failure = FailureOf(made_up.fault, number, a, number == SYS_epoll_ctl ? b : c);
        if (Fails(failure)) {
            switch (made_up.fault) {
                case FaultKind::kKill:
                    process.ends = true;
                    throw Stopped();
                case FaultKind::kShort:
                    c = made_up.fault_lasts ? c / 7 + 1 : 1;
                    break;
                default:
                    if (number == SYS_close) (void)CloseOne(static_cast<int>(a));
                    return -failure;
            }
        }
    }
    switch (number) {
        case SYS_clone:
            return Fork();
        case SYS_wait4: {
            if (made_up.ended.empty()) return made_up.processes.empty() ? -ECHILD : 0;
            const auto [pid, status] = made_up.ended.front();
            made_up.ended.pop_front();
            *reinterpret_cast<int*>(b) = status;
            return pid;
        }
        case SYS_kill:
            return Signal(static_cast<int>(a), static_cast<int>(b));
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
            if (!made_up.has_random) return -ENOSYS;
            memset(reinterpret_cast<void*>(a), 0x5a, static_cast<std::size_t>(b));
            return b;
        case SYS_getpid:
            return kSelf;
        case SYS_getppid:
            return Refuses("getppid") ? 1 : kSelf;
        case SYS_geteuid:
            return made_up.uid >= 0 ? made_up.uid : Real(number);
        case SYS_fchdir:
            if (a < 0) return -EBADF;
            process.current = static_cast<int>(a);
            return 0;
        case SYS_chdir:
            if (Refuses("chdir")) return -ENOENT;
            process.current = -1;
            return 0;
        case SYS_setgroups:
            return Refuses("setgroups") ? -EPERM : 0;
        case SYS_setresgid:
            return Refuses("setresgid") ? -EPERM : 0;
        case SYS_setresuid:
            return Refuses("setresuid") ? -EAGAIN : 0;
        case SYS_execve:
            return made_up.exec_result;
        case SYS_prctl:
        case SYS_rt_sigprocmask:
        case SYS_rt_sigaction:
        case SYS_setsid:
        case SYS_sync:
            return 0;
        case SYS_umask:
            return 022;
        case SYS_dup3:
            return b;
        case SYS_prlimit64: {
            if (d == 0) return 0;
            if (Refuses("prlimit")) return -EPERM;
            auto* limit = reinterpret_cast<rlimit*>(d);
            limit->rlim_cur = made_up.soft_files;
            limit->rlim_max = 4096;
            return 0;
        }
        case SYS_signalfd4:
            return NewPipe(&process.signals);
        case SYS_inotify_init1:
            if (!made_up.has_inotify) return -EMFILE;
            process.watches.clear();
            return NewPipe(&process.changes);
        case SYS_inotify_add_watch:
            if (!made_up.has_inotify) return -ENOSPC;
            return AddWatch(PathOf(b), c);
        case SYS_inotify_rm_watch:
            return process.watches.erase(static_cast<int>(b)) > 0 ? 0 : -EINVAL;
        case SYS_getcwd: {
            const std::string link = "/proc/self/fd/" + std::to_string(process.current);
            const long length =
                readlink(link.c_str(), reinterpret_cast<char*>(a), static_cast<std::size_t>(b) - 1);
            if (length < 0) return -errno;
            reinterpret_cast<char*>(a)[length] = '\0';
            return length + 1;
        }
        case SYS_faccessat:
            return made_up.programs.count(PathOf(b)) > 0 ? 0 : -ENOENT;
        case SYS_openat:
            return OpenFile(a, PathOf(b), c, d);
        case SYS_readlinkat:
            return ReadLink(static_cast<int>(a), PathOf(b), reinterpret_cast<char*>(c),
                            static_cast<std::size_t>(d));
        case SYS_getsockopt: {
            const long error = Real(number, a, b, c, d, e);
            // pid, uid, gid
            if (made_up.peer_uid >= 0) reinterpret_cast<int*>(d)[1] = made_up.peer_uid;
            return error;
        }
        case SYS_fstat: {
            const long error = Real(number, a, b);
            if (error == 0 && made_up.file_uid >= 0) {
                reinterpret_cast<struct stat*>(b)->st_uid = static_cast<unsigned>(made_up.file_uid);
            }
            return error;
        }
        case SYS_newfstatat:
            if (strcmp(PathOf(b), "/proc/1") == 0) b = reinterpret_cast<long>("/");
            break;
        case SYS_statx:
            if (!made_up.has_statx) return -ENOSYS;
            break;
        case SYS_mkdirat:
            // A parent of the test's own directory.
            if (StartsWith(Directory(), std::string(PathOf(b)) + "/")) return -EEXIST;
            CHECK(IsOurs(PathOf(b)));  // a change outside the spool
            break;
        case SYS_unlinkat:
            if (a == AT_FDCWD && PathOf(b)[0] != '/') a = process.current;
            CHECK(IsOurs(PathOf(b)));
            break;
        case SYS_mknodat:
            CHECK(IsOurs(PathOf(b)));
            if (Refuses("mknodat")) return -ENOSPC;
            break;
        case SYS_fchownat:
            CHECK(IsOurs(PathOf(b)));
            break;
        case SYS_renameat2:
            return Rename(a, PathOf(b), c, PathOf(d), e);
        case SYS_write:
            if (a == 1 || a == 2) {
                made_up.said.append(PathOf(b), static_cast<std::size_t>(c));
                return c;
            }
            break;
        case SYS_fcntl:
            if (b == F_SETLEASE && !made_up.has_leases) return -EINVAL;
            if (b == F_DUPFD_CLOEXEC) return Keep(Real(number, a, b, c));
            break;
        case SYS_close:
            return CloseOne(static_cast<int>(a));
        case SYS_pipe2: {
            const long error = Real(number, a, b);
            if (error < 0) return error;
            const auto* ends = reinterpret_cast<const int*>(a);
            process.pipes.emplace_back(Keep(ends[0]), Keep(ends[1]));
            made_up.last_pipe = ends[0];
            return 0;
        }
        case SYS_getdents64:
            if (process.proc_lists.count(static_cast<int>(a)) > 0) {
                return ListProc(static_cast<int>(a), reinterpret_cast<void*>(b),
                                static_cast<std::size_t>(c));
            }
            break;
        case SYS_epoll_ctl:
            if (c == 0 || c == 1) return made_up.has_channel ? 0 : -EPERM;
            break;
        case SYS_epoll_pwait:
            return WaitForNews(a, b, c, d);
        case SYS_bind:
        case SYS_connect:
            return OfSocket(number, a, b);
        case SYS_sendmsg: {
            const long sent = Real(number, a, b, c);
            if (listener >= 0) {
                const int relay = accept(listener, nullptr, nullptr);
                if (made_up.on_relay) made_up.on_relay(relay);
                CloseFd(relay);
            }
            return sent;
        }
        case SYS_recvmsg:
            return Receive(a, b, c);
        case SYS_socket:
        case SYS_accept4:
        case SYS_epoll_create1:
            return Keep(Real(number, a, b, c, d));
        case SYS_fchmod:
            if (Refuses("fchmod")) return -EPERM;
            break;
        case SYS_fchown:
        case SYS_utimensat:
        case SYS_fsync:
        case SYS_read:
        case SYS_pread64:
        case SYS_flock:
        case SYS_ioctl:
        case SYS_fallocate:
        case SYS_getegid:
        case SYS_listen:
        case SYS_uname:
            break;
        default:
            (void)std::fprintf(stderr, "system call %ld\n", number);
            CHECK(false);  // nobody has thought of it: it may do harm here
    }
    return Real(number, a, b, c, d, e, f);
}

}  // namespace sbxfs::supervisor::sys
