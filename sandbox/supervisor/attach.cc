#include "sandbox/supervisor/attach.h"

#include "sandbox/supervisor/serve.h"
#include "sandbox/supervisor/sockets.h"
#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

constexpr int64_t kStartMs = 20000;
constexpr int kLockExclusive = 2;
constexpr int kLockDontWait = 4;

int Complain(View what, View path, long error, View remedy) {
    Str line;
    line.append("sbxfs-supervisor: ").append(what).append(" ").append(path);
    if (error != 0) {
        line.append(": ");
        AppendErrno(&line, error);
    }
    if (!remedy.empty()) line.append("; ").append(remedy);
    line.append("\n");
    WriteAll(2, line.view());
    return error == -ENOSPC || error == -EDQUOT ? 4 : 3;
}

// mkdir -p, each with 0700 (the umask is 077 by now).
long MakeDirs(View path) {
    Str part;
    for (size_t at = 1; at <= path.size; ++at) {
        if (at < path.size && path[at] != '/') continue;
        part.Assign(path.First(at));
        const long error = sys::MakeDirAt(AT_FDCWD, part.c_str(), 0700);
        if (error < 0 && error != -EEXIST && error != -EACCES && error != -EROFS) return error;
        if (at >= path.size) return error == -EEXIST ? 0 : error;
    }
    return 0;
}

// 0, or an exit code after a line on stderr.
int OpenSpool(View path, Fd* dir) {
    if (path.empty() || path[0] != '/') {
        Complain("the spool must be an absolute path, not", path, 0, "");
        return 2;
    }
    if (const long error = MakeDirs(path); error < 0 && error != -EEXIST) {
        return Complain("cannot make the spool", path, error,
                        error == -ENOSPC ? "free some space in the sandbox" : "name another place");
    }
    Str name(path);
    const long opened = sys::OpenAt(AT_FDCWD, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (opened < 0) return Complain("cannot use the spool", path, opened, "it must be a directory");
    *dir = Fd(opened);
    struct stat stat {};
    sys::StatFd(dir->get(), &stat);
    if (stat.st_uid != sys::GetUid()) {
        return Complain("the spool", path, -EPERM,
                        "it belongs to another user, name another place");
    }
    if ((stat.st_mode & 0777) != 0700) {
        if (const long error = sys::ChangeModeFd(dir->get(), 0700); error < 0) {
            return Complain("the spool is open to others, and cannot be closed:", path, error, "");
        }
    }
    return 0;
}

// In a grandchild, which init or a subreaper adopts. The result is an exit code, after a line on
// stderr.
int StartSupervisor(const Fd& dir, Fd lock, int grace_ms, const Inherited& inherited,
                    char** environment) {
    int ends[2] = {-1, -1};
    if (const long error = sys::Pipe(ends, O_CLOEXEC); error < 0) {
        return Complain("cannot start the supervisor", "", error, "");
    }
    const Fd told(ends[0]);
    Fd ready(ends[1]);
    const long child = sys::Fork();
    if (child < 0) return Complain("cannot start the supervisor", "", child, "");
    if (child == 0) {
        sys::SetSid();
        if (sys::Fork() != 0) sys::Exit(0);
        ServeOptions options;
        options.dir = Fd(sys::Control(dir.get(), F_DUPFD_CLOEXEC, 3));
        options.lock = std::move(lock);
        options.ready = std::move(ready);
        options.inherited.umask = inherited.umask;
        options.environment = environment;
        options.grace_ms = grace_ms;
        Serve(std::move(options));
    }
    ready.reset();
    lock.reset();
    int status = 0;
    sys::Wait(static_cast<int>(child), &status, 0);
    Str answer;
    for (;;) {
        const long got = sys::Read(told.get(), answer.Room(256), 256);
        if (got == -EINTR) continue;
        if (got <= 0) break;
        answer.Grown(static_cast<size_t>(got));
    }
    if (answer.view() == "ok\n") return 0;
    if (answer.empty()) answer.append("the supervisor ended before it was ready\n");
    Str line;
    line.append("sbxfs-supervisor: ").append(answer.view());
    WriteAll(2, line.view());
    Str space;
    AppendErrno(&space, ENOSPC);
    for (size_t at = 0; at < answer.size(); ++at) {
        if (answer.view().From(at).StartsWith(space.view())) return 4;
    }
    return 3;
}

// The lock decides who starts it: it goes with the starter's fork, so there is no moment without an
// owner.
long FindOrStart(const Fd& dir, View spool, int grace_ms, const Inherited& inherited,
                 char** environment, int* code) {
    const int64_t until = sys::MonotonicMs() + kStartMs;
    for (int pause = 1; sys::MonotonicMs() < until; pause = pause < 50 ? pause * 2 : 50) {
        const long opened = sys::OpenAt(dir.get(), "lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
        if (opened < 0) {
            *code = Complain("cannot make the lock of the spool", spool, opened, "");
            return opened;
        }
        Fd lock(opened);
        if (sys::Lock(lock.get(), kLockExclusive | kLockDontWait) == 0) {
            // A spool that was just removed leaves its old lock to us.
            struct stat held {};
            struct stat named {};
            sys::StatFd(lock.get(), &held);
            if (sys::StatAt(dir.get(), "lock", &named) < 0 || held.st_ino != named.st_ino) continue;
            *code = StartSupervisor(dir, std::move(lock), grace_ms, inherited, environment);
            if (*code != 0) return -EIO;
        }
        const long connected = ConnectTo(static_cast<const char*>(kSocketName));
        if (connected >= 0) return connected;
        sys::SleepMs(pause);  // another attach is starting it
    }
    Complain("the supervisor of the spool does not answer:", spool, 0,
             "end it (the process that holds the spool's lock) and attach again");
    *code = 5;
    return -ETIMEDOUT;
}

// The supervisor waits for both ends with epoll, which takes no files and no /dev/null.
bool CanBeWaitedFor(int fd) {
    const Fd epoll(sys::EpollCreate());
    return sys::EpollControl(epoll.get(), EPOLL_CTL_ADD, fd, 0, 0) == 0;
}

enum class Handed { kTaken, kLostTheSupervisor, kImpossible };

// The supervisor may die, or have died with a child not yet executed holding its socket, between
// our connecting and its taking the channel. It says so when it has.
Handed HandOver(const Fd& relay) {
    const int ends[2] = {0, 1};
    const long error = SendFds(relay.get(), ends, 2);
    if (error == -EBADF || error == -EINVAL) return Handed::kImpossible;
    if (error < 0) return Handed::kLostTheSupervisor;
    char byte = 0;
    for (;;) {
        const long got = sys::Read(relay.get(), &byte, 1);
        if (got != -EINTR) return got == 1 ? Handed::kTaken : Handed::kLostTheSupervisor;
    }
}

}  // namespace

int Attach(View spool, int grace_ms, char** environment) {
    Inherited inherited;
    inherited.umask = sys::Umask(077);
    sys::Disposition(sys::kPipe, true);
    while (spool.size > 1 && spool[spool.size - 1] == '/')
        spool = spool.First(spool.size - 1);
    Fd dir;
    if (const int code = OpenSpool(spool, &dir); code != 0) return code;
    if (const long error = sys::ChangeDirFd(dir.get()); error < 0) {
        return Complain("cannot enter the spool", spool, error, "");
    }
    if (!CanBeWaitedFor(0) || !CanBeWaitedFor(1)) {
        Complain("standard input and output must be pipes or sockets, as over ssh", "", 0, "");
        return 2;
    }
    Fd relay;
    for (int tries = 0;; ++tries) {
        int code = 0;
        const long connected = FindOrStart(dir, spool, grace_ms, inherited, environment, &code);
        if (connected < 0) return code;
        relay = Fd(connected);
        const Handed handed = HandOver(relay);
        if (handed == Handed::kTaken) break;
        if (handed == Handed::kImpossible || tries == 100) {
            return Complain("cannot hand the channel to the supervisor of", spool, -EIO, "");
        }
        sys::SleepMs(tries < 10 ? 1 : 20);
    }
    // Nothing more is said here: the end of the connection ends this.
    char byte = 0;
    for (;;) {
        const long got = sys::Read(relay.get(), &byte, 1);
        if (got != -EINTR) return 0;
    }
}

}  // namespace sbxfs::supervisor
