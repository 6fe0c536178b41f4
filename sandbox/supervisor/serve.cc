#include "sandbox/supervisor/serve.h"

#include <linux/prctl.h>

#include "sandbox/supervisor/expiry.h"
#include "sandbox/supervisor/session.h"
#include "sandbox/supervisor/sockets.h"
#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

constexpr size_t kMostPending = 8;
constexpr int64_t kPauseMs = 100;  // after an attach that could not be accepted

class Server {
 public:
    explicit Server(Runtime& runtime)
        : runtime_(runtime),
          commands_(runtime),
          shell_(runtime, commands_),
          parallel_(runtime, commands_),
          session_(runtime, commands_, shell_, parallel_, timers_),
          expiry_(commands_, shell_) {}

    // Negative errno when nobody could attach.
    long Prepare();
    [[noreturn]] void Run();

 private:
    void Handle(uint64_t tag, uint32_t events);
    void OnListener();
    void OnPending(uint64_t fd);
    void OnSignals();
    void Reap();
    void Tick();
    int Timeout() const;
    [[noreturn]] void End();

    Runtime& runtime_;
    Commands commands_;
    ShellLane shell_;
    ParallelLane parallel_;
    Timers timers_;
    Session session_;
    Expiry expiry_;
    Fd signals_;
    Fd listener_;
    Vec<Fd> pending_;             // attaches that have not sent their descriptors yet
    int64_t listen_ms_ = kNever;  // nobody is accepted until then
    bool terminated_ = false;
};

long Server::Prepare() {
    const uint64_t mask = sys::SignalBit(sys::kChld) | sys::SignalBit(sys::kTerm);
    sys::SetMask(mask);
    for (int signal = 1; signal <= 31; ++signal) {
        if (signal != sys::kChld && signal != sys::kTerm) sys::Disposition(signal, true);
    }
    sys::Disposition(sys::kChld, false);
    sys::Disposition(sys::kTerm, false);
    const long signals = sys::SignalFd(mask);
    if (signals < 0) return signals;
    signals_ = Fd(signals);
    long error = runtime_.Watch(signals_.get(), EPOLLIN, Tag(Source::kChildren));
    if (error < 0) return error;
    error = runtime_.Watch(runtime_.spool.reports(), EPOLLIN, Tag(Source::kReports));
    if (error < 0) return error;
    commands_.OpenWatch();
    error = commands_.Recover();
    if (error < 0) return error;
    sys::ChangeDirFd(runtime_.spool.dir());
    const long listener = ListenAt(static_cast<const char*>(kSocketName));
    sys::ChangeDir("/");
    if (listener < 0) return listener;
    listener_ = Fd(listener);
    return runtime_.Watch(listener_.get(), EPOLLIN, Tag(Source::kListener));
}

void Server::OnListener() {
    for (;;) {
        const long fd = AcceptFrom(listener_.get());
        if (fd < 0) {
            if (fd == -EAGAIN || fd == -EINTR) return;
            // Such as too many open files: it goes on waiting there, and would be told of for as long as that lasts.
            runtime_.Rewatch(listener_.get(), 0, Tag(Source::kListener));
            listen_ms_ = sys::MonotonicMs() + kPauseMs;
            return;
        }
        Fd relay(fd);
        if (!PeerIsTrusted(relay.get(), runtime_.uid)) continue;
        if (pending_.size() >= kMostPending) {
            runtime_.Unwatch(pending_[0].get());
            pending_.Remove(0);
        }
        runtime_.Watch(relay.get(), EPOLLIN, Tag(Source::kListener, static_cast<uint64_t>(fd)));
        pending_.Add(std::move(relay));
    }
}

void Server::OnPending(uint64_t fd) {
    for (size_t i = 0; i < pending_.size(); ++i) {
        if (pending_[i].get() != static_cast<int>(fd)) continue;
        Fd in;
        Fd out;
        const long error = ReceiveTwoFds(pending_[i].get(), &in, &out);
        if (error == -EAGAIN) return;
        Fd relay = std::move(pending_[i]);
        pending_.Remove(i);
        runtime_.Unwatch(relay.get());
        // The attach hears that somebody living has its channel; without this it tries again
        // (attach.cc).
        const char taken = 'A';
        if (error != 0 || sys::Write(relay.get(), &taken, 1) != 1) return;
        session_.Accept(std::move(in), std::move(out), std::move(relay));
        return;
    }
}

void Server::Reap() {
    int status = 0;
    for (;;) {
        const long pid = sys::Wait(-1, &status, sys::kNoHang);
        if (pid <= 0) return;
        const int child = static_cast<int>(pid);
        // Nobody's: an orphan whose parent died. Nobody asks for its status.
        if (!session_.OnExit(child, status) && !shell_.OnExit(child, status)) {
            parallel_.OnExit(child, status);
        }
    }
}

void Server::OnSignals() {
    alignas(8) char infos[128 * 8];  // signalfd_siginfo
    for (;;) {
        const long got = sys::Read(signals_.get(), infos, sizeof infos);
        if (got <= 0) break;
        for (long at = 0; at < got; at += 128) {
            uint32_t signal = 0;
            __builtin_memcpy(&signal, infos + at, sizeof signal);
            terminated_ = terminated_ || signal == static_cast<uint32_t>(sys::kTerm);
        }
    }
    Reap();
}

void Server::Handle(uint64_t tag, uint32_t events) {
    switch (SourceOf(tag)) {
        case Source::kChildren:
            return OnSignals();
        case Source::kListener:
            return WhichOf(tag) == 0 ? OnListener() : OnPending(WhichOf(tag));
        case Source::kReports:
            return shell_.OnReports();
        case Source::kFiles:
            return commands_.OnFileEvents();
        case Source::kShellInput:
            return shell_.OnRoom((events & (EPOLLERR | EPOLLHUP)) != 0);
        case Source::kSpawned:
            return WhichOf(tag) == 0 ? shell_.OnSpawned() : parallel_.OnSpawned(WhichOf(tag));
        case Source::kConnection:
            return session_.OnConnection(WhichOf(tag), events);
    }
}

void Server::Tick() {
    const int64_t now = sys::MonotonicMs();
    commands_.Tick(now);
    shell_.Tick(now);
    session_.Tick(now);
    expiry_.Tick(now);
    if (now >= listen_ms_) {
        listen_ms_ = kNever;
        runtime_.Rewatch(listener_.get(), EPOLLIN, Tag(Source::kListener));
    }
    const Timers::Due due = timers_.Check(now, commands_.AnyRunning());
    if (due != Timers::Due::kNothing) expiry_.Begin(due, timers_.action(), now);
    do {
        shell_.Advance();
        session_.Pump();
    } while (session_.HandleWaiting());
}

int Server::Timeout() const {
    int64_t next = timers_.NextTick(commands_.AnyRunning());
    next = Sooner(next, commands_.NextTick());
    next = Sooner(next, shell_.NextTick());
    next = Sooner(next, session_.NextTick());
    next = Sooner(Sooner(next, expiry_.NextTick()), listen_ms_);
    if (next == kNever) return -1;
    const int64_t left = next - sys::MonotonicMs();
    if (left <= 0) return 0;
    return left < 86400000 ? static_cast<int>(left) : 86400000;
}

void Server::End() {
    commands_.KillAll();
    shell_.KillShell();
    // The last answers, as far as the daemon takes them within two seconds.
    const int64_t until = sys::MonotonicMs() + 2000;
    session_.Pump();
    while (session_.HasUnsent() && sys::MonotonicMs() < until) {
        session_.Pump();
        sys::SleepMs(5);
    }
    sys::UnlinkAt(runtime_.spool.dir(), static_cast<const char*>(kSocketName));
    sys::Exit(0);
}

void Server::Run() {
    epoll_event events[16];
    for (;;) {
        const long count = sys::EpollWait(runtime_.epoll, events, 16, Timeout());
        for (long i = 0; i < count; ++i)
            Handle(events[i].data, events[i].events);
        Tick();
        if (terminated_ || session_.Ended()) End();
    }
}

// The limit and the score are ours; commands get back what the login had.
void RaiseOurselves(Inherited* inherited) {
    rlimit64 files{};
    if (sys::GetLimit(0, RLIMIT_NOFILE, &files) == 0) {
        inherited->soft_files = files.rlim_cur;
        inherited->hard_files = files.rlim_max;
        files.rlim_cur = files.rlim_max;
        sys::SetLimit(RLIMIT_NOFILE, files);
    }
    Str score;
    if (ReadFile(AT_FDCWD, "/proc/self/oom_score_adj", &score, 16) == 0 &&
        WriteFile(AT_FDCWD, "/proc/self/oom_score_adj", "-900") == 0) {
        inherited->oom_score = std::move(score);
    }
}

void FindHome(Runtime* runtime) {
    View home;
    if (runtime->env.Get("HOME", &home) && !home.empty()) {
        runtime->home.Assign(home);
        return;
    }
    Str passwd;
    Account account;
    ReadFile(AT_FDCWD, "/etc/passwd", &passwd, 4 << 20);
    if (FindAccountByUid(passwd.view(), runtime->uid, &account)) {
        SetIdentity(account, &runtime->env);
        runtime->home.Assign(account.home.view());
    } else {
        runtime->home.Assign("/");
    }
}

void GatherEnvironment(Runtime* runtime, char** login) {
    Environment image;
    // A machine that was booted has an init of its own, whose environment is no image's.
    Process init;
    const bool is_image = ReadProcess(1, &init) && !(init.Name() == "systemd") &&
                          !(init.Name() == "init") && ReadImageEnvironment(&image);
    if (!is_image) image = Environment();
    struct stat stat {};
    const bool ours = sys::StatAt(AT_FDCWD, "/proc/1", &stat) == 0 && stat.st_uid == runtime->uid;
    runtime->env = MergeEnvironment(login, image, ours);
}

[[noreturn]] void FailToServe(const ServeOptions& options, const char* what, long error) {
    Str line;
    line.append(View(what)).append(": ");
    AppendErrno(&line, error);
    line.append("\n");
    WriteAll(options.ready.get(), line.view());
    sys::Exit(error == -ENOSPC || error == -EDQUOT ? 4 : 3);
}

}  // namespace

void Serve(ServeOptions options) {
    const Fd null(sys::OpenAt(AT_FDCWD, "/dev/null", O_RDWR));
    if (!null) FailToServe(options, "/dev/null cannot be opened", -ENOENT);
    for (int fd = 0; fd < 3; ++fd)
        sys::Duplicate(null.get(), fd);
    const int kept[] = {options.dir.get(), options.lock.get(), options.ready.get()};
    CloseAllBut(kept, 3);
    sys::ChangeDir("/");
    sys::Prctl(PR_SET_CHILD_SUBREAPER, 1);

    auto* runtime = new (Allocate(sizeof(Runtime))) Runtime();
    runtime->self = sys::GetPid();
    runtime->uid = sys::GetUid();
    runtime->gid = sys::GetGid();
    runtime->grace_ms = options.grace_ms;
    runtime->inherited = std::move(options.inherited);
    RaiseOurselves(&runtime->inherited);
    const long opened = sys::OpenAt(AT_FDCWD, "/dev/null", O_RDWR);
    const long epoll = sys::EpollCreate();
    // Without them it would hold the spool's lock and serve nobody.
    if (opened < 0) FailToServe(options, "/dev/null cannot be opened", opened);
    if (epoll < 0) FailToServe(options, "the supervisor cannot wait for anything", epoll);
    runtime->null = Fd(opened);
    runtime->epoll = static_cast<int>(epoll);
    GatherEnvironment(runtime, options.environment);
    FindHome(runtime);
    runtime->default_shell = DefaultShell(runtime->env);
    if (const long error = runtime->spool.Open(std::move(options.dir)); error < 0) {
        FailToServe(options, "the spool cannot be set up", error);
    }
    auto* server = new (Allocate(sizeof(Server))) Server(*runtime);
    if (const long error = server->Prepare(); error < 0) {
        FailToServe(options, "the spool cannot be served", error);
    }
    WriteAll(options.ready.get(), "ok\n");
    options.ready.reset();
    runtime->lock = options.lock.release();  // held until the end of the process
    server->Run();
}

}  // namespace sbxfs::supervisor
