#include "sandbox/supervisor/init.h"

#include "sandbox/supervisor/files.h"
#include "sandbox/supervisor/sockets.h"
#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

constexpr size_t kMostServers = 64;  // a flood of connections is no fork bomb
constexpr int64_t kGraceMs = 2000;

enum Tags : uint64_t { kTagSignals, kTagListener };

class InitProcess {
 public:
    explicit InitProcess(const InitOptions& options) : options_(options) {}
    int Run();

 private:
    bool WaitForGo() const;
    void CloseOnExec() const;
    void OnListener();
    void StartServer(int connection);
    // Why the sandbox shall end; nullptr when it need not.
    const char* OnSignals();
    void Reap();
    void Listen(bool on);
    [[noreturn]] void End(const char* why);

    const InitOptions& options_;
    Fd epoll_;
    Fd signals_;
    Vec<int> servers_;
    bool listening_ = false;
};

bool InitProcess::WaitForGo() const {
    if (options_.go_fd < 0) return true;
    char byte = 0;
    for (;;) {
        const long got = sys::Read(options_.go_fd, &byte, 1);
        if (got == -EINTR) continue;
        sys::Close(options_.go_fd);
        return got == 1;
    }
}

// Nothing that was inherited reaches a server but its connection.
void InitProcess::CloseOnExec() const {
    for (int fd = 3; fd < 1024; ++fd)
        sys::Control(fd, F_SETFD, FD_CLOEXEC);
}

void InitProcess::Listen(bool on) {
    if (listening_ == on) return;
    listening_ = on;
    sys::EpollControl(epoll_.get(), EPOLL_CTL_MOD, options_.listen_fd, on ? EPOLLIN : 0,
                      kTagListener);
}

void InitProcess::OnListener() {
    for (;;) {
        if (servers_.size() >= kMostServers) return Listen(false);
        const long accepted = AcceptFrom(options_.listen_fd);
        if (accepted < 0) return;
        const Fd connection(accepted);
        sys::Control(connection.get(), F_SETFL, 0);  // sshd wants it blocking
        StartServer(connection.get());
    }
}

void InitProcess::StartServer(int connection) {
    const long pid = sys::Fork();
    if (pid != 0) {
        if (pid > 0) servers_.Add(static_cast<int>(pid));
        return;
    }
    sys::SetSid();
    for (int signal = 1; signal <= sys::kLastSignal; ++signal)
        sys::Disposition(signal, false);
    sys::SetMask(0);
    sys::Duplicate(connection, 0);
    sys::Duplicate(connection, 1);
    const Fd null(sys::OpenAt(AT_FDCWD, "/dev/null", O_WRONLY));
    sys::Duplicate(null.get(), 2);
    sys::Execve(options_.program[0], options_.program, options_.environment);
    sys::Exit(127);
}

void InitProcess::Reap() {
    int status = 0;
    for (;;) {
        const long pid = sys::Wait(-1, &status, sys::kNoHang);
        if (pid <= 0) break;
        for (size_t i = 0; i < servers_.size(); ++i) {
            if (servers_[i] == pid) {
                servers_.Remove(i);
                break;
            }
        }
    }
    if (servers_.size() < kMostServers) Listen(true);
}

const char* InitProcess::OnSignals() {
    const char* why = nullptr;
    alignas(8) char infos[128 * 4];
    for (;;) {
        const long got = sys::Read(signals_.get(), infos, sizeof infos);
        if (got <= 0) break;
        for (long at = 0; at < got; at += 128) {
            uint32_t signal = 0;
            __builtin_memcpy(&signal, infos + at, sizeof signal);
            if (signal == sys::kUsr1) why = "expired idle\n";
            if (signal == sys::kUsr2) why = "expired lifetime\n";
            if (signal == sys::kTerm || signal == sys::kInt) why = "stopped\n";
        }
    }
    Reap();
    return why;
}

void InitProcess::End(const char* why) {
    WriteAll(options_.note_fd, why);
    sys::Kill(-1, sys::kTerm);
    sys::Kill(-1, sys::kCont);
    const int64_t until = sys::MonotonicMs() + kGraceMs;
    int status = 0;
    while (sys::MonotonicMs() < until) {
        const long pid = sys::Wait(-1, &status, sys::kNoHang);
        if (pid == -ECHILD) break;
        if (pid == 0) sys::SleepMs(5);
    }
    sys::Kill(-1, sys::kKill);
    sys::Exit(0);  // the kernel takes what is left: the namespace dies with its PID 1
}

int InitProcess::Run() {
    if (!WaitForGo()) return 1;
    CloseOnExec();
    uint64_t mask = 0;
    for (const int signal : {sys::kChld, sys::kTerm, sys::kInt, sys::kUsr1, sys::kUsr2}) {
        // PID 1 has no default actions, but a blocked signal waits for the signalfd all the same.
        mask |= sys::SignalBit(signal);
    }
    sys::SetMask(mask);
    sys::Disposition(sys::kPipe, true);
    sys::Disposition(sys::kHup, true);
    signals_ = Fd(sys::SignalFd(mask));
    epoll_ = Fd(sys::EpollCreate());
    sys::EpollControl(epoll_.get(), EPOLL_CTL_ADD, signals_.get(), EPOLLIN, kTagSignals);
    sys::Control(options_.listen_fd, F_SETFL, O_NONBLOCK);
    const long watched =
        sys::EpollControl(epoll_.get(), EPOLL_CTL_ADD, options_.listen_fd, EPOLLIN, kTagListener);
    if (watched < 0) return 2;
    listening_ = true;
    const int64_t end_ms = options_.lifetime_ms == 0
                               ? INT64_MAX
                               : sys::MonotonicMs() + static_cast<int64_t>(options_.lifetime_ms);
    Reap();
    for (;;) {
        const int64_t left = end_ms - sys::MonotonicMs();
        if (left <= 0) End("expired lifetime\n");
        epoll_event events[4];
        const int timeout = end_ms == INT64_MAX ? -1
                            : left < 86400000   ? static_cast<int>(left)
                                                : 86400000;
        const long count = sys::EpollWait(epoll_.get(), events, 4, timeout);
        for (long i = 0; i < count; ++i) {
            if (events[i].data == kTagListener) {
                OnListener();
            } else if (const char* why = OnSignals()) {
                End(why);
            }
        }
    }
}

}  // namespace

int Init(const InitOptions& options) {
    // Ending a sandbox is kill(-1), which anywhere else would end a user's whole machine.
    if (sys::GetPid() != 1) {
        WriteAll(2, "sbxfs-supervisor: init must be PID 1 of a namespace of its own\n");
        return 2;
    }
    InitProcess process(options);
    return process.Run();
}

}  // namespace sbxfs::supervisor
