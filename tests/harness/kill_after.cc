// Runs a program and kills it with SIGKILL just before its k-th step: a system call, by any of its threads, that
// changes something somebody else can see (a file, a directory, a peer, another process). For the crash harness:
// whatever the daemon has promised must be true after a death at any of these moments.
//
//     kill_after [--at K] [--steps FILE] [--of WORD] PROGRAM ARGUMENT...
//
// --steps lists every step, the last line being the one that never happened. Exit code: 137 when killed, else the
// program's own. When this program dies, the traced one does. With --of the program itself runs on: counted
// and killed is the first process it spawns with that argument.
//
// Every system call of every thread stops (PTRACE_SYSCALL). A seccomp filter would stop at the steps only, but it
// is inherited: ssh helpers, bubblewrap and the sandbox itself, which must outlive the daemon and its tracer, would
// get ENOSYS from it for ever. Children are not traced: only what clone(2) calls a thread is followed.
#include <errno.h>
#include <fcntl.h>
#include <linux/ptrace.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

namespace {

constexpr int kKilled = 137;
constexpr int kBroken = 125;

// <sys/ptrace.h> and <linux/ptrace.h>, which has the newer words, do not go together.
long Trace(unsigned request, pid_t tid, unsigned long address, void* data) {
    return ::syscall(SYS_ptrace, request, tid, address, data);
}

struct CloseFile {
    void operator()(std::FILE* file) const { (void)std::fclose(file); }
};
using UniqueFile = std::unique_ptr<std::FILE, CloseFile>;

[[noreturn]] void Die(const char* what) {
    std::perror(what);
    std::exit(kBroken);
}

std::string FdTarget(pid_t tid, std::uint64_t fd) {
    const std::string link = "/proc/" + std::to_string(tid) + "/fd/" + std::to_string(fd);
    std::array<char, 512> target{};
    const ssize_t size = ::readlink(link.c_str(), target.data(), target.size());
    return size < 0 ? "?" : std::string(target.data(), static_cast<std::size_t>(size));
}

std::string TextAt(pid_t tid, std::uint64_t address) {
    std::array<char, 256> text{};
    iovec here{text.data(), text.size() - 1};
    iovec there{reinterpret_cast<void*>(address), text.size() - 1};
    // A short string near the end of a mapping: what could be read is enough.
    const ssize_t size = ::process_vm_readv(tid, &here, 1, &there, 1, 0);
    return size <= 0 ? "?" : std::string(text.data());
}

enum class Names { kDescriptor, kPath, kNothing };

struct Step {
    std::uint64_t nr;
    const char* name;
    Names names;           // what the argument is
    std::size_t argument;  // the one that says what is changed
};

constexpr Step kSteps[] = {
    {SYS_write, "write", Names::kDescriptor, 0},
    {SYS_writev, "writev", Names::kDescriptor, 0},
    {SYS_pwrite64, "pwrite", Names::kDescriptor, 0},
    {SYS_pwritev, "pwritev", Names::kDescriptor, 0},
    {SYS_pwritev2, "pwritev", Names::kDescriptor, 0},
    {SYS_sendto, "send", Names::kDescriptor, 0},
    {SYS_sendmsg, "sendmsg", Names::kDescriptor, 0},
    {SYS_splice, "splice", Names::kDescriptor, 2},
    {SYS_fsync, "fsync", Names::kDescriptor, 0},
    {SYS_fdatasync, "fdatasync", Names::kDescriptor, 0},
    {SYS_ftruncate, "ftruncate", Names::kDescriptor, 0},
    {SYS_fallocate, "fallocate", Names::kDescriptor, 0},
    {SYS_shutdown, "shutdown", Names::kDescriptor, 0},
    {SYS_connect, "connect", Names::kDescriptor, 0},
    {SYS_renameat, "rename", Names::kPath, 1},
    {SYS_renameat2, "rename", Names::kPath, 1},
    {SYS_unlinkat, "unlink", Names::kPath, 1},
    {SYS_mkdirat, "mkdir", Names::kPath, 1},
    {SYS_linkat, "link", Names::kPath, 1},
    {SYS_symlinkat, "symlink", Names::kPath, 0},
    {SYS_mount, "mount", Names::kPath, 1},
    {SYS_umount2, "umount", Names::kPath, 0},
    {SYS_openat, "create", Names::kPath, 1},
    {SYS_kill, "kill", Names::kNothing, 0},
    {SYS_pidfd_send_signal, "kill", Names::kNothing, 0},
    {SYS_clone, "spawn", Names::kNothing, 0},
    {SYS_clone3, "spawn", Names::kNothing, 0},
#ifdef SYS_rename  // older names, which newer architectures do not have
    {SYS_rename, "rename", Names::kPath, 0},
    {SYS_unlink, "unlink", Names::kPath, 0},
    {SYS_rmdir, "rmdir", Names::kPath, 0},
    {SYS_mkdir, "mkdir", Names::kPath, 0},
    {SYS_link, "link", Names::kPath, 0},
    {SYS_symlink, "symlink", Names::kPath, 0},
    {SYS_open, "create", Names::kPath, 0},
    {SYS_fork, "spawn", Names::kNothing, 0},
    {SYS_vfork, "spawn", Names::kNothing, 0},
#endif
};

const Step* FindStep(std::uint64_t nr) {
    for (const Step& step : kSteps) {
        if (step.nr == nr) return &step;
    }
    return nullptr;
}

// Calls that are steps with some arguments only.
bool Changes(pid_t tid, const ptrace_syscall_info& info) {
    const auto& args = info.entry.args;
    switch (info.entry.nr) {
        case SYS_openat:
            return (args[2] & O_CREAT) != 0;
#ifdef SYS_open
        case SYS_open:
            return (args[1] & O_CREAT) != 0;
#endif
        case SYS_clone:
            return (args[0] & CLONE_THREAD) == 0;
        case SYS_clone3: {
            std::uint64_t flags = 0;
            iovec here{&flags, sizeof flags};
            iovec there{reinterpret_cast<void*>(args[0]), sizeof flags};
            const bool read = ::process_vm_readv(tid, &here, 1, &there, 1, 0) > 0;
            return read && (flags & CLONE_THREAD) == 0;
        }
        default:
            return true;
    }
}

// One line that says which step a call is; empty when it is none.
std::string Describe(pid_t tid, const ptrace_syscall_info& info) {
    const Step* step = FindStep(info.entry.nr);
    if (step == nullptr || !Changes(tid, info)) return "";
    const std::uint64_t value = info.entry.args[step->argument];
    if (step->names == Names::kNothing) return step->name;
    if (step->names == Names::kPath) return std::string(step->name) + " " + TextAt(tid, value);
    const std::string target = FdTarget(tid, value);
    // A loop waking another thread of its own; our own log.
    if (target == "anon_inode:[eventfd]" || value == 1 || value == 2) return "";
    return std::string(step->name) + " " + target;
}

// The program, waiting for a byte before it begins: by then it is traced.
pid_t StartHeld(char** argv, int& go) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) Die("pipe");
    const pid_t child = ::fork();
    if (child < 0) Die("fork");
    if (child == 0) {
        char byte = 0;
        if (::read(ends[0], &byte, 1) != 1) ::_exit(kBroken);
        ::execvp(argv[0], argv);
        std::perror(argv[0]);
        ::_exit(127);
    }
    (void)::close(ends[0]);
    go = ends[1];
    return child;
}

bool HasArgument(pid_t pid, std::string_view word) {
    const UniqueFile file(std::fopen(("/proc/" + std::to_string(pid) + "/cmdline").c_str(), "re"));
    std::array<char, 4096> words{};
    const std::size_t size = file ? std::fread(words.data(), 1, words.size(), file.get()) : 0;
    const std::string wanted = '\0' + std::string(word) + '\0';
    return std::string_view(words.data(), size).find(wanted) != std::string_view::npos;
}

pid_t GroupOf(pid_t tid) {
    const UniqueFile file(std::fopen(("/proc/" + std::to_string(tid) + "/status").c_str(), "re"));
    std::array<char, 256> line{};
    while (file && std::fgets(line.data(), line.size(), file.get()) != nullptr) {
        int group = 0;
        if (std::sscanf(line.data(), "Tgid: %d", &group) == 1) return group;
    }
    return 0;
}

struct Options {
    long at = 0;
    std::FILE* steps = nullptr;
    std::string of;
};

class Tracer {
 public:
    Tracer(pid_t leader, const Options& options)
        : leader_(leader), at_(options.at), steps_(options.steps), of_(options.of) {}

    // Until the program is gone; its wait status.
    int Run() {
        for (;;) {
            int status = 0;
            const pid_t tid = ::waitpid(-1, &status, __WALL);
            if (tid < 0 && errno == EINTR) continue;
            if (tid < 0) Die("waitpid");
            if (WIFSTOPPED(status)) {
                Stopped(tid, status);
            } else if (tid == leader_) {
                return status;  // of a thread group the leader is reported last
            }
        }
    }

 private:
    void Stopped(pid_t tid, int status) {
        const int event = status >> 16;
        unsigned long signal = 0;
        if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
            if (AtSyscall(tid)) return;
        } else if (event == PTRACE_EVENT_EXEC) {
            if (!Executed(tid)) return;
        } else if (event == 0) {
            signal = static_cast<unsigned long>(WSTOPSIG(status));
        }
        // ESRCH: killed meanwhile.
        (void)Trace(PTRACE_SYSCALL, tid, 0, reinterpret_cast<void*>(signal));
    }

    // False when it is none of ours: let go.
    bool Executed(pid_t tid) {
        const pid_t pid = GroupOf(tid);
        if (pid == leader_ ? of_.empty() : counted_ == 0 && HasArgument(pid, of_)) counted_ = pid;
        if (pid == leader_ || pid == counted_) return true;
        (void)Trace(PTRACE_DETACH, tid, 0, nullptr);
        return false;
    }

    // True when this was the last step: the thread stays where it is, and SIGKILL ends it before the call.
    bool AtSyscall(pid_t tid) {
        ptrace_syscall_info info{};
        const long size = Trace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info);
        if (size <= 0 || info.op != PTRACE_SYSCALL_INFO_ENTRY || counted_ == 0) return false;
        const std::string step = Describe(tid, info);
        if (step.empty() || (!of_.empty() && GroupOf(tid) != counted_)) return false;
        ++count_;
        if (steps_ != nullptr) {
            (void)std::fprintf(steps_, "%ld %s\n", count_, step.c_str());
            (void)std::fflush(steps_);
        }
        if (count_ != at_) return false;
        if (::kill(counted_, SIGKILL) != 0) Die("kill");
        return true;
    }

    const pid_t leader_;
    const long at_;
    std::FILE* const steps_;
    const std::string of_;
    long count_ = 0;
    pid_t counted_ = 0;  // the process whose steps count, once it is there
};

}  // namespace

int main(int argc, char** argv) {
    Options options;
    int next = 1;
    for (; next + 1 < argc && std::string_view(argv[next]).starts_with("--"); next += 2) {
        const std::string_view option = argv[next];
        if (option == "--at") options.at = std::atol(argv[next + 1]);
        if (option == "--steps") options.steps = std::fopen(argv[next + 1], "we");
        if (option == "--of") options.of = argv[next + 1];
    }
    if (next >= argc) {
        (void)std::fputs(
            "usage: kill_after [--at K] [--steps FILE] [--of WORD] PROGRAM ARGUMENT...\n", stderr);
        return kBroken;
    }
    int go = -1;
    const pid_t leader = StartHeld(argv + next, go);
    // A spawn is a vfork; what is forked is left alone in any case.
    const unsigned long flags = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC |
                                PTRACE_O_EXITKILL | (options.of.empty() ? 0 : PTRACE_O_TRACEVFORK);
    if (Trace(PTRACE_SEIZE, leader, 0, reinterpret_cast<void*>(flags)) != 0) Die("ptrace");
    if (Trace(PTRACE_INTERRUPT, leader, 0, nullptr) != 0) Die("ptrace");
    if (::write(go, "", 1) != 1) Die("write");
    const int status = Tracer(leader, options).Run();
    return WIFEXITED(status)             ? WEXITSTATUS(status)
           : WTERMSIG(status) == SIGKILL ? kKilled
                                         : 128 + WTERMSIG(status);
}
