#include "fs/connection_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "base/spawn.h"
#include "fs/mounts.h"

namespace sbxfs {
namespace {

constexpr const char* kFusectl = "/sys/fs/fuse/connections";
constexpr long kFusectlMagic = 0x65735543;  // FUSE_CTL_SUPER_MAGIC
constexpr int kStartMs = 5000;              // for a small process on a busy machine

// A real-time signal: nobody sends such a one by habit, and it is not merged with another.
int DeathSignal() {
    return SIGRTMIN + 1;
}

bool IsFusectl(int fd) {
    struct statfs what {};
    return ::fstatfs(fd, &what) == 0 && what.f_type == kFusectlMagic;
}

// The directory of all connections. Where it is not mounted (a container), root may have it without a place in the
// tree.
Result<UniqueFd> OpenFusectl() {
    UniqueFd there(::open(kFusectl, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (there && IsFusectl(there.get())) return there;
    const Error absent(Errno{ENOENT}, std::string("fusectl is not mounted on ") + kFusectl);
    const UniqueFd type(::fsopen("fusectl", FSOPEN_CLOEXEC));
    if (!type || ::fsconfig(type.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
        return absent;
    UniqueFd root(::fsmount(type.get(), FSMOUNT_CLOEXEC, 0));
    if (!root) return absent;
    return root;
}

// Never by looking at the mount point: nobody answers there yet.
Result<UniqueFd> OpenAbort(const std::string& mountpoint) {
    const SbxfsMount mount = TRY(FindMount(mountpoint));
    // "0:42": such devices have no major number, and fusectl names a connection by the other.
    const std::string number = mount.device.substr(mount.device.find(':') + 1);
    const UniqueFd connections = TRY(OpenFusectl());
    UniqueFd abort(::openat(connections.get(), (number + "/abort").c_str(), O_WRONLY | O_CLOEXEC));
    if (!abort) return SystemError(errno, std::string(kFusectl) + "/" + number + "/abort");
    return abort;
}

}  // namespace

Result<std::unique_ptr<ConnectionGuard>> ConnectionGuard::Start(const std::string& mountpoint) {
    const UniqueFd abort = TRY(OpenAbort(mountpoint));
    const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    std::array<int, 2> ends{};
    if (!null || ::pipe2(ends.data(), O_CLOEXEC) != 0) return SystemError(errno, "pipe");
    UniqueFd word(ends[0]);
    const UniqueFd says(ends[1]);
    SpawnRequest request;
    request.argv = {"/proc/self/exe", "connection-guard"};
    request.in = null.get();
    request.out = abort.get();
    request.err = says.get();
    request.environment.emplace();
    const pid_t pid = TRY(Spawn(request));
    return std::unique_ptr<ConnectionGuard>(new ConnectionGuard(pid, std::move(word)));
}

Status ConnectionGuard::AwaitWatching() {
    pollfd wait{.fd = word_.get(), .events = POLLIN, .revents = 0};
    while (::poll(&wait, 1, kStartMs) < 0 && errno == EINTR) {
    }
    char said = 0;
    const bool watches = wait.revents != 0 && ::read(word_.get(), &said, 1) == 1;
    word_.reset();
    if (!watches) return Error(Errno{ESRCH}, "the process that was to watch has not begun");
    return Ok();
}

ConnectionGuard::~ConnectionGuard() {
    (void)::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
}

int ConnectionGuardMain() {
    if (!IsFusectl(STDOUT_FILENO)) return 1;  // not started by a daemon
    // Whatever is sent to all that is called sbxfs, or to all of a service: it lives as long as the daemon.
    sigset_t all;
    (void)::sigfillset(&all);
    (void)::sigprocmask(SIG_SETMASK, &all, nullptr);
    (void)::prctl(PR_SET_NAME, "sbxfs-guard");
    const pid_t daemon = ::getppid();
    const int signal = DeathSignal();
    if (::prctl(PR_SET_PDEATHSIG, signal) != 0) return 1;
    if (::write(STDERR_FILENO, "w", 1) != 1) return 1;  // gone meanwhile; it has had no request
    (void)::close(STDERR_FILENO);
    (void)::close(STDIN_FILENO);

    sigset_t death;
    (void)::sigemptyset(&death);
    (void)::sigaddset(&death, signal);
    siginfo_t from{};
    // The kernel names the dying one as the sender: nobody else's word counts.
    while (::sigwaitinfo(&death, &from) != signal || from.si_pid != daemon) {
    }
    return ::write(STDOUT_FILENO, "1", 1) == 1 ? 0 : 1;
}

}  // namespace sbxfs
