#include "sandbox/providers/local/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

#include "base/files.h"
#include "base/strings.h"
#include "sandbox/provider.h"
#include "sandbox/providers/local/base_layer.h"
#include "sandbox/providers/local/box.h"
#include "sandbox/providers/local/cgroups.h"
#include "sandbox/providers/local/destroyer.h"
#include "sandbox/providers/local/init_program.h"
#include "sandbox/providers/local/root_view.h"
#include "sandbox/providers/local/snapshots.h"
#include "sandbox/providers/local/sshd_config.h"
#include "sandbox/providers/local/starter.h"
#include "sandbox/providers/local/uid_range.h"
#include "sandbox/providers/local/userns.h"

namespace sbxfs {
namespace {

constexpr int kLaunchLockLimitMs = 30'000;
constexpr int kStragglersMs = 10'000;
constexpr int kStopLimitMs = 20'000;
constexpr int kBannerLimitMs = 15'000;

Error Destroyed() {
    return {Errno{ECANCELED}, "the sandbox was destroyed while it was being launched"};
}

Login LoginOf(bool range_mapped) {
    Login login;
    login.shell = ::access("/bin/bash", X_OK) == 0 ? "/bin/bash" : "/bin/sh";
    if (range_mapped) return login;
    login.uid = ::geteuid();
    login.gid = ::getegid();
    // NOLINTNEXTLINE(concurrency-mt-unsafe): the helper has one thread.
    const passwd* entry = ::getpwuid(login.uid);
    login.name = entry != nullptr ? entry->pw_name : "user";
    login.home = "/home/" + login.name;
    return login;
}

// The init program and all that a sandbox makes lie there.
Status CheckExecutable(const std::string& state_dir) {
    struct statvfs file_system {};
    if (::statvfs(state_dir.c_str(), &file_system) != 0 || (file_system.f_flag & ST_NOEXEC) == 0)
        return Ok();
    return Error(Errno{EACCES},
                 "the state directory " + state_dir +
                     " lies on a file system mounted noexec; choose another with state_dir=");
}

// Looks at what lies at the source of a bind now, links resolved, and judges that.
Result<ReadyBind> FindSource(const HostBind& bind, const LaunchOrder& order,
                             std::optional<std::uint32_t> first_id) {
    ReadyBind ready;
    ready.bind = bind;
    std::array<char, PATH_MAX> resolved{};
    if (::realpath(bind.source.c_str(), resolved.data()) == nullptr) {
        return SystemError(errno, "`binds`: " + bind.source, Blame::kCaller);
    }
    ready.source = resolved.data();
    (void)TRY(CheckBindSource(ready.source, order.forbidden));
    struct stat found {};
    if (::stat(ready.source.c_str(), &found) != 0) {
        return SystemError(errno, "`binds`: " + ready.source, Blame::kCaller);
    }
    if (!S_ISDIR(found.st_mode) && !S_ISREG(found.st_mode) && !S_ISSOCK(found.st_mode)) {
        return Error(Errno{EINVAL},
                     "`binds`: " + ready.source + " is no directory, file or socket");
    }
    ready.directory = S_ISDIR(found.st_mode);
    ready.device = found.st_dev;
    ready.inode = found.st_ino;
    if (first_id) {
        // Only the source's owner is shown, as the sandbox's root; anybody else's files there stay
        // nobody's.
        ready.ids =
            TRY(MakeUserNamespace({found.st_uid, *first_id, 1}, {found.st_gid, *first_id, 1}));
    }
    return ready;
}

Result<UniqueFd> ListenOn(const Box& box) {
    UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!listener) return SystemError(errno, "socket");
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = box.ShortPath("ssh.sock");
    std::memcpy(address.sun_path, path.data(), path.size());
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): what the sockets API is like.
    if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return SystemError(errno, "bind " + box.path() + "/ssh.sock");
    }
    if (::chmod(path.c_str(), 0600) != 0) return SystemError(errno, "chmod ssh.sock");
    if (::listen(listener.get(), 64) != 0) return SystemError(errno, "listen");
    return listener;
}

// Connects as a client will and waits for sshd's first words.
Status AwaitBanner(const Box& box, Starter& starter) {
    const auto deadline =
        std::chrono::steady_clock::now() + std::chrono::milliseconds(kBannerLimitMs);
    const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = box.ShortPath("ssh.sock");
    std::memcpy(address.sun_path, path.data(), path.size());
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): what the sockets API is like.
    if (::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return SystemError(errno, "connecting to the sandbox's sshd");
    }
    std::string banner;
    for (;;) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        std::array<pollfd, 2> wait{pollfd{.fd = client.get(), .events = POLLIN, .revents = 0},
                                   pollfd{.fd = starter.watch(), .events = POLLIN, .revents = 0}};
        const int ready = ::poll(wait.data(), wait.size(),
                                 static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) break;
        if (wait[0].revents == 0) {
            return Error(Errno{EIO}, "the sandbox does not start: " + starter.Complaints(),
                         Blame::kRemote);
        }
        std::array<char, 256> chunk{};
        const ssize_t got = ::read(client.get(), chunk.data(), chunk.size());
        if (got <= 0) break;
        banner.append(chunk.data(), static_cast<std::size_t>(got));
        if (banner.starts_with("SSH-2.0-")) return Ok();
        if (banner.size() >= 8) break;
    }
    return Error(Errno{EIO},
                 "sshd does not answer in the sandbox (" + Printable(banner, 80) + "); " +
                     starter.Complaints() + "; see /var/log/sshd.log in the sandbox",
                 Blame::kRemote);
}

Json ProgramFacts(const std::vector<ShownTree>& trees) {
    Json facts = Json::Object();
    for (const ShownTree& tree : trees) {
        std::string text = tree.writable ? "writable, changes are private" : "read-only";
        if (!tree.ids_mapped) text += "; files not changed here belong to nobody";
        if (!tree.why.empty()) text += "; " + tree.why;
        facts.Set("/" + tree.name, text);
    }
    return facts;
}

class Launch {
 public:
    Launch(const LaunchOrder& order, const TellPhase& tell, Box box)
        : order_(order), tell_(tell), box_(std::move(box)) {}

    Result<Json> Run() {
        tell_("prepare");
        const UniqueFd lock = TRY(box_.AwaitLock(kLaunchLockLimitMs));
        if (box_.Has("launched.json")) return Again();
        // Whatever an earlier attempt has left: it never answered, so nobody counts on it.
        (void)TRY(EndProcesses(box_, kStragglersMs));
        (void)TRY(ClearBox(box_, Clear::kForAnotherLaunch));
        (void)TRY(box_.Write("spec.json", order_.ToRecord().Dump(2) + "\n"));
        alive_ = TRY(box_.HoldAlive(kStragglersMs));
        (void)TRY(Furnish());
        return Start();
    }

    // A stopped one again: what was made for it stays, what ran in it is made anew.
    Result<Json> RunAgain() {
        again_ = true;
        const UniqueFd lock = TRY(box_.AwaitLock(kLaunchLockLimitMs));
        if (!box_.Has("launched.json") || !box_.Has("layer"))
            return Error(Errno{EHOSTDOWN}, "its files are gone; destroy it and make another");
        if (!box_.Has("starting") && box_.IsAlive()) return Again();
        if (Trim(box_.Read("pid").value_or("")) != Trim(order_.init))
            return Error(Errno{ECANCELED}, "it was started or stopped again meanwhile");
        (void)TRY(box_.Write("starting", ""));
        (void)TRY(EndProcesses(box_, kStragglersMs));
        (void)TRY(ClearAfterRun(box_));
        (void)TRY(box_.Write("spec.json", order_.ToRecord().Dump(2) + "\n"));
        alive_ = TRY(box_.HoldAlive(kStragglersMs));
        (void)TRY(Furnish());
        Json started = TRY(Start());
        box_.Remove("starting");
        return started;
    }

 private:
    // An earlier launch with this token came to its end.
    Result<Json> Again() {
        std::optional<Json> launched = box_.Launched();
        if (!launched) return Error(Errno{EIO}, "unreadable " + box_.path() + "/launched.json");
        if (box_.IsAlive()) return *std::move(launched);
        return Error(Errno{EHOSTDOWN},
                     "this sandbox has already ended; destroy it and make another");
    }

    // All that the first process must know before it is forked.
    Status Furnish() {
        if (!FromSnapshot()) {
            base_ = again_ ? TRY(SameBaseLayer(order_.state_dir, box_))
                           : TRY(TakeBaseLayer(order_.state_dir, box_));
        }
        (void)TRY(CheckExecutable(order_.state_dir));
        login_ = LoginOf(::geteuid() == 0);
        owner_ = {::geteuid(), ::getegid()};
        if (::geteuid() == 0) {
            first_id_ =
                again_ ? TRY(SameIds())
                       : TRY(TakeUidRange(box_.path(), kUidRegistry, [this](std::uint32_t first) {
                             return box_.Write("uid_range", std::to_string(first) + "\n");
                         }));
            const IdRange range{0, *first_id_, kIdsPerSandbox};
            userns_ = TRY(MakeUserNamespace(range, range));
            owner_ = {*first_id_, *first_id_};
        }
        for (const HostBind& bind : order_.settings.binds) {
            binds_.push_back(TRY(FindSource(bind, order_, first_id_)));
        }
        if (FromSnapshot()) {
            tell_("snapshot");
            (void)TRY(CopySnapshot(order_.state_dir, order_.settings.snapshot, box_, first_id_));
            base_ = TRY(SameBaseLayer(order_.state_dir, box_));
        }
        return Ok();
    }

    bool FromSnapshot() const { return !again_ && !order_.settings.snapshot.empty(); }

    // Its files are theirs.
    Result<std::uint32_t> SameIds() {
        const auto first = ParseNumber<std::uint32_t>(Trim(box_.Read("uid_range").value_or("")));
        if (!first) return Error(Errno{EIO}, "unreadable " + box_.path() + "/uid_range");
        (void)TRY(RetakeUidRange(*first, box_.path(), kUidRegistry));
        return *first;
    }

    Status FillLayer() {
        if (again_) return RenewLayer(box_.dir(), owner_);
        LayerPlan layer;
        layer.etc = {login_, order_.hostname, order_.settings.own_network, order_.client_key,
                     &order_.host_key.private_pem};
        layer.owner = owner_;
        if (!FromSnapshot()) return MakeLayer(box_.dir(), layer);
        (void)TRY(RenewLayer(box_.dir(), owner_));
        {
            const UniqueFd root(::openat(box_.dir(), "layer/root",
                                         O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
            if (!root) return SystemError(errno, "open layer/root");
            TreeMaker tree(root.get(), owner_);
            (void)TRY(tree.Dir("run/lock", 01777));  // /run begins empty
        }
        const UniqueFd etc(::openat(box_.dir(), "layer/etc/upper",
                                    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!etc) return SystemError(errno, "open layer/etc");
        return RenewOwnEtc(etc.get(), owner_, layer.etc);
    }

    Result<Json> Start() {
        const UniqueFd listener = TRY(ListenOn(box_));
        const UniqueFd note = TRY(box_.OpenForWriting("note", O_APPEND | O_TRUNC));
        const Limits limits{order_.cpu, order_.memory, order_.settings.pids};
        CgroupSet groups =
            CgroupSet::Make(FindHierarchies(), "sbxfs-" + order_.token, limits,
                            [this](const std::string& directory) { return Remember(directory); });
        const StartPlan plan = TRY(MakePlan(listener.get(), note.get()));
        Starter starter;
        Result<Json> launched = StartWith(plan, groups, starter);
        if (!launched) (void)box_.Write("log", starter.Complaints() + "\n");
        return launched;
    }

    Result<Json> StartWith(const StartPlan& plan, CgroupSet& groups, Starter& starter) {
        (void)TRY(starter.Fork(plan, groups));
        (void)TRY(FillLayer());  // while the child joins its groups
        tell_("namespaces");
        const Starter::Mounted mounted = TRY(starter.Mount());
        groups.NotJoined(mounted.not_joined);
        const ProcessRecord init = TRY(starter.AwaitInit());
        (void)TRY(box_.Write("pid", init.ToText()));
        if (box_.IsDestroyed()) return Destroyed();
        tell_("sshd");
        (void)TRY(starter.Go());
        (void)TRY(AwaitBanner(box_, starter));
        const Json launched = Answer(mounted, groups.facts());
        (void)TRY(box_.Write("launched.json", launched.Dump() + "\n"));
        starter.Release();
        return launched;
    }

    Result<StartPlan> MakePlan(int listener, int note) {
        const Tools tools = FindTools();
        StartPlan plan;
        plan.bwrap = tools.bwrap;
        plan.view.layer = box_.path() + "/layer";
        plan.view.base = base_;
        if (userns_) plan.view.userns = userns_->get();
        plan.view.owner = owner_;
        plan.view.fresh = !again_ && !FromSnapshot();
        plan.view.workdir = order_.workdir;
        plan.view.init_program = order_.init_program.empty()
                                     ? TRY(InstallInitProgram(order_.state_dir))
                                     : order_.init_program;
        plan.view.binds = &binds_;
        plan.options.login = login_;
        plan.options.range_mapped = userns_.has_value();
        plan.options.own_network = order_.settings.own_network;
        plan.options.hostname = order_.hostname;
        plan.sshd = {tools.sshd,         "-i", "-f", std::string(kSshDir) + "/sshd_config", "-E",
                     "/var/log/sshd.log"};
        plan.lifetime_ms = order_.lifetime_ms;
        plan.pids = order_.settings.pids;
        plan.listen_fd = listener;
        plan.note_fd = note;
        plan.alive_fd = alive_.get();
        return plan;
    }

    // Processes are bounded in any case (starter.cc), only not together for all user ids.
    Json WithFallback(Json limits) const {
        const std::string pids = limits.GetString("pids").value_or("");
        if (pids.starts_with("not applied")) {
            limits.Set("pids", std::to_string(order_.settings.pids) +
                                   " for each user id (RLIMIT_NPROC); as a control group " + pids);
        }
        return limits;
    }

    Status Remember(const std::string& directory) {
        return box_.Write("cgroups", box_.Read("cgroups").value_or("") + directory + "\n");
    }

    Json Answer(const Starter::Mounted& mounted, const Json& limits) const {
        ConnectInfo connect;
        connect.address = UnixAddress{box_.path() + "/ssh.sock"};
        connect.user = login_.name;
        connect.host_key = order_.host_key.public_line;
        connect.spool_dir = kSpoolDir;
        Json facts = Json::Object();
        facts.Set("address", box_.path() + "/ssh.sock").Set("user", login_.name);
        facts.Set("hostname", order_.hostname);
        facts.Set("network", order_.settings.own_network ? "none" : "shared");
        if (!order_.settings.own_network && !mounted.abstract_sockets.empty()) {
            facts.Set("abstract_sockets",
                      "those of this machine can be reached: " + mounted.abstract_sockets);
        }
        if (first_id_) {
            facts.Set("host_ids", std::to_string(*first_id_) + "-" +
                                      std::to_string(*first_id_ + kIdsPerSandbox - 1));
        } else {
            facts.Set("host_ids", std::to_string(owner_.uid) + ", as the mounting user");
        }
        facts.Set("programs", ProgramFacts(mounted.trees)).Set("limits", WithFallback(limits));
        Json launched = Json::Object();
        launched.Set("id", order_.token).Set("connect", connect.ToJson()).Set("facts", facts);
        return launched;
    }

    const LaunchOrder& order_;
    const TellPhase& tell_;
    Box box_;
    bool again_ = false;
    UniqueFd alive_;
    std::string base_;
    Login login_;
    Owner owner_;
    std::optional<std::uint32_t> first_id_;
    std::optional<UniqueFd> userns_;
    std::vector<ReadyBind> binds_;
};

std::string FindProgram(std::string_view name) {
    for (const std::string_view dir :
         {"/usr/sbin/", "/usr/bin/", "/usr/local/sbin/", "/usr/local/bin/"}) {
        std::string path = std::string(dir) + std::string(name);
        if (::access(path.c_str(), X_OK) == 0) return path;
    }
    return {};
}

}  // namespace

Result<Json> LaunchBox(const LaunchOrder& order, const TellPhase& tell) {
    Result<Box> box = Box::Open(order.state_dir, order.token);
    if (!box && box.error().code() == Errno{ENOENT}) return Destroyed();
    if (!box) return std::move(box).error();
    return Launch(order, tell, *std::move(box)).Run();
}

Result<Json> StartBox(const LaunchOrder& order) {
    Result<Box> box = Box::Open(order.state_dir, order.token);
    if (!box && box.error().code() == Errno{ENOENT}) return Destroyed();
    if (!box) return std::move(box).error();
    const TellPhase nobody = [](std::string_view) {};
    return Launch(order, nobody, *std::move(box)).RunAgain();
}

Status StopBox(const StopOrder& order) {
    Result<Box> box = Box::Open(order.state_dir, order.token);
    if (!box && box.error().code() == Errno{ENOENT}) return Ok();
    if (!box) return std::move(box).error();
    const Result<UniqueFd> lock = box->AwaitLock(kLaunchLockLimitMs);
    if (!lock && lock.error().code() == Errno{ECANCELED}) return Ok();
    if (!lock) return lock.error();
    // A helper that comes late, of a daemon that was killed: it was stopped, and started again.
    if (Trim(box->Read("pid").value_or("")) != Trim(order.init)) return Ok();
    (void)TRY(EndProcesses(*box, kStopLimitMs));
    return ClearAfterRun(*box);
}

Tools FindTools() {
    return {FindProgram("bwrap"), FindProgram("sshd")};
}

}  // namespace sbxfs
