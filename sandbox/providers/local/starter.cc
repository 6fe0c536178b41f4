#include "sandbox/providers/local/starter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "base/files.h"
#include "base/json.h"
#include "base/strings.h"
#include "sandbox/providers/local/landlock.h"
#include "sandbox/providers/local/mounts.h"
#include "sandbox/providers/local/userns.h"

namespace sbxfs {
namespace {

constexpr int kStartLimitMs = 20'000;
constexpr std::size_t kComplaintLimit = 16U << 10;

Status MakePipe(UniqueFd& read_end, UniqueFd& write_end) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return SystemError(errno, "pipe");
    read_end.reset(ends[0]);
    write_end.reset(ends[1]);
    return Ok();
}

Json ToJson(const std::vector<ShownTree>& trees) {
    Json list = Json::Array();
    for (const ShownTree& tree : trees) {
        Json json = Json::Object();
        json.Set("name", tree.name).Set("writable", tree.writable);
        json.Set("ids_mapped", tree.ids_mapped).Set("why", tree.why);
        list.Append(json);
    }
    return list;
}

std::vector<ShownTree> TreesFrom(const Json& list) {
    std::vector<ShownTree> trees;
    for (const Json& json : list.Elements()) {
        trees.push_back(
            {json.GetString("name").value_or(""), json.GetBool("writable").value_or(false),
             json.GetBool("ids_mapped").value_or(false), json.GetString("why").value_or("")});
    }
    return trees;
}

// Reads until the other side has closed, which it does by becoming another program or by ending.
std::string ReadToEnd(int fd) {
    std::string text;
    std::array<char, 4096> chunk{};
    for (;;) {
        const ssize_t got = ::read(fd, chunk.data(), chunk.size());
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return text;
        text.append(chunk.data(), static_cast<std::size_t>(got));
    }
}

Result<UniqueFd> MemoryFile(std::string_view bytes) {
    UniqueFd file(::memfd_create("sbxfs-args", MFD_CLOEXEC));
    if (!file) return SystemError(errno, "memfd_create");
    (void)TRY(WriteAll(file.get(), bytes));
    if (::lseek(file.get(), 0, SEEK_SET) != 0) return SystemError(errno, "lseek");
    return file;
}

// What a login would start with, not what the daemon raised for itself.
void ResetProcess(std::int64_t pids) {
    (void)::umask(022);
    // Counted apart in each user namespace (Linux 5.14): a bound also where no control group can be had.
    rlimit processes{};
    if (pids > 0 && ::getrlimit(RLIMIT_NPROC, &processes) == 0) {
        processes.rlim_max = std::min<rlim_t>(processes.rlim_max, static_cast<rlim_t>(pids));
        processes.rlim_cur = processes.rlim_max;
        (void)::setrlimit(RLIMIT_NPROC, &processes);
    }
    rlimit files{};
    if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = std::min<rlim_t>(files.rlim_max, 1024);
        (void)::setrlimit(RLIMIT_NOFILE, &files);
    }
    for (int number = 1; number < NSIG; ++number)
        (void)::signal(number, SIG_DFL);
    sigset_t none;
    (void)::sigemptyset(&none);
    (void)::sigprocmask(SIG_SETMASK, &none, nullptr);
    // Keys in the mounting user's session keyring are not the sandbox's to find (keyrings(7)).
    (void)::syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr);
}

// After this exec(2) passes on exactly `kept`.
Status KeepOnly(const std::vector<int>& kept) {
    if (::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) != 0) return SystemError(errno, "close_range");
    for (const int fd : kept) {
        // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): fcntl has no other form.
        if (::fcntl(fd, F_SETFD, 0) != 0) return SystemError(errno, "fcntl");
    }
    return Ok();
}

int MsLeft(std::chrono::steady_clock::time_point deadline) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    return static_cast<int>(std::max<std::int64_t>(left.count(), 0));
}

}  // namespace

Starter::~Starter() {
    if (child_ < 0) return;
    gate_.reset();
    go_.reset();  // an init that waits ends now, and bubblewrap after it
    if (init_) (void)KillAndWait(init_.get(), 5000);
    pollfd wait{.fd = bwrap_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&wait, 1, 5000) == 1) (void)::waitpid(child_, nullptr, 0);
}

Status Starter::Fork(const StartPlan& plan, const CgroupSet& groups) {
    (void)TRY(MakePipe(gate_inside_, gate_));
    (void)TRY(MakePipe(report_, report_inside_));
    (void)TRY(MakePipe(go_inside_, go_));
    (void)TRY(MakePipe(info_, info_inside_));
    (void)TRY(MakePipe(stderr_, stderr_inside_));
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): fcntl has no other form.
    (void)::fcntl(stderr_.get(), F_SETFL, O_NONBLOCK);

    child_ = PlainFork();
    if (child_ < 0) return SystemError(errno, "fork");
    if (child_ == 0) {
        gate_.reset();
        go_.reset();
        RunChild(plan, groups);
    }
    bwrap_ = OpenPidfd(child_);
    gate_inside_.reset();
    report_inside_.reset();
    go_inside_.reset();
    info_inside_.reset();
    stderr_inside_.reset();
    return Ok();
}

Result<Starter::Mounted> Starter::Mount() {
    (void)TRY(WriteAll(gate_.get(), "1"));
    const auto report = Json::Parse(ReadToEnd(report_.get()));
    if (!report) return Error(Errno{EIO}, "the sandbox's first process ended unexpectedly");
    if (const auto what = report->GetString("error")) {
        return Error(Errno{static_cast<int>(report->GetNumber("errno").value_or(EIO))}, *what);
    }
    Mounted mounted;
    mounted.abstract_sockets = report->GetString("abstract_sockets").value_or("");
    mounted.trees = TreesFrom(report->Find("trees").value_or(Json::Array()));
    const Json groups = report->Find("not_joined").value_or(Json::Object());
    for (const std::string& group : groups.Keys()) {
        mounted.not_joined[group] = groups.GetString(group).value_or("");
    }
    return mounted;
}

void Starter::RunChild(const StartPlan& plan, const CgroupSet& groups) {
    // A daemon may have protected itself from the out-of-memory killer; a sandbox must not be.
    if (const auto score = OpenFile("/proc/self/oom_score_adj", O_WRONLY))
        (void)WriteAll(score->get(), "0");
    Json not_joined = Json::Object();
    for (const auto& [group, why] : groups.Join())
        not_joined.Set(group, why);
    Json report = Json::Object();
    report.Set("not_joined", not_joined);
    char ignored = 0;
    if (::read(gate_inside_.get(), &ignored, 1) != 1) ::_exit(1);  // the helper is gone, or gave up
    const Status failed = BecomeBwrap(plan, std::move(report));
    Json json = Json::Object();
    json.Set("errno", static_cast<std::int64_t>(failed.error().code()));
    json.Set("error", failed.error().what());
    (void)WriteAll(report_inside_.get(), json.Dump());
    ::_exit(1);
}

Status Starter::BecomeBwrap(const StartPlan& plan, Json report) {
    const bool range_mapped = plan.options.range_mapped;
    // Opened before there are namespaces: a file of the new ones would keep all that is mounted below
    // its own mount alive for as long as the sandbox lives, and so the daemon's mount in /dev/shm.
    const UniqueFd null = TRY(OpenFile("/dev/null", O_RDWR));
    if (!range_mapped) (void)TRY(BecomeRootOfOwnNamespace());
    (void)TRY(MakeMountsPrivate());
    report.Set("trees", ToJson(TRY(MountView(plan.view))));
    if (range_mapped) {
        (void)TRY(EnterAsRoot(*plan.view.userns));
        (void)TRY(LimitCapabilities(RootCapabilities()));
    }
    const Status scoped = LeaveAbstractSocketsAlone();
    report.Set("abstract_sockets", scoped ? "" : scoped.error().what());
    BwrapPlan options = plan.options;
    options.info_fd = info_inside_.get();
    const UniqueFd args = TRY(MemoryFile(BwrapArgs(options)));
    std::vector<std::string> words = {"bwrap", "--args", std::to_string(args.get()), "--"};
    for (std::string& word : InitArgv(plan))
        words.push_back(std::move(word));
    std::vector<char*> argv;
    for (std::string& word : words)
        argv.push_back(word.data());
    argv.push_back(nullptr);

    ResetProcess(plan.pids);
    if (::chdir("/") != 0) return SystemError(errno, "chdir /");
    if (::dup2(null.get(), 0) < 0 || ::dup2(null.get(), 1) < 0 ||
        ::dup2(stderr_inside_.get(), 2) < 0) {
        return SystemError(errno, "dup2");
    }
    // Both ends of the info pipe go along: bubblewrap writes there before it lets its second half
    // go, and a SIGPIPE at that moment, because the helper was killed, would leave that half
    // waiting for ever.
    (void)TRY(KeepOnly({args.get(), info_inside_.get(), info_.get(), plan.listen_fd,
                        go_inside_.get(), plan.note_fd, plan.alive_fd}));
    (void)TRY(WriteAll(report_inside_.get(), report.Dump()));
    std::array<char*, 1> no_environment{nullptr};
    (void)::execve(plan.bwrap.c_str(), argv.data(), no_environment.data());
    ::_exit(127);  // AwaitInit() notices
}

std::vector<std::string> Starter::InitArgv(const StartPlan& plan) const {
    std::vector<std::string> words = {kInitPath, "init"};
    const auto add = [&words](const char* name, std::int64_t number) {
        words.emplace_back(name);
        words.push_back(std::to_string(number));
    };
    add("--listen-fd", plan.listen_fd);
    add("--go-fd", go_inside_.get());
    add("--note-fd", plan.note_fd);
    add("--lock-fd", plan.alive_fd);
    add("--lifetime-ms", plan.lifetime_ms);
    words.emplace_back("--");
    words.insert(words.end(), plan.sshd.begin(), plan.sshd.end());
    return words;
}

Result<ProcessRecord> Starter::AwaitInit() {
    const auto deadline =
        std::chrono::steady_clock::now() + std::chrono::milliseconds(kStartLimitMs);
    std::string text;
    while (text.find('}') == std::string::npos) {
        std::array<pollfd, 2> wait{pollfd{.fd = info_.get(), .events = POLLIN, .revents = 0},
                                   pollfd{.fd = bwrap_.get(), .events = POLLIN, .revents = 0}};
        const int ready = ::poll(wait.data(), wait.size(), MsLeft(deadline));
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0)
            return Error(Errno{ETIMEDOUT}, "bubblewrap does not start: " + Complaints());
        if ((wait[0].revents & POLLIN) == 0) {
            return Error(Errno{EIO}, "bubblewrap ended: " + Complaints(), Blame::kRemote);
        }
        std::array<char, 512> chunk{};
        const ssize_t got = ::read(info_.get(), chunk.data(), chunk.size());
        if (got > 0) text.append(chunk.data(), static_cast<std::size_t>(got));
    }
    const auto json = Json::Parse(text);
    const auto pid = json ? json->GetNumber("child-pid") : std::nullopt;
    if (!pid) return Error(Errno{EIO}, "bubblewrap told no pid: " + Printable(text));
    init_ = OpenPidfd(static_cast<pid_t>(*pid));
    if (!init_)
        return Error(Errno{EIO}, "the sandbox's init ended: " + Complaints(), Blame::kRemote);
    return ProcessRecord::Of(static_cast<pid_t>(*pid));
}

Status Starter::Go() {
    return WriteAll(go_.get(), "g");
}

bool Starter::Ended() {
    pollfd wait{.fd = bwrap_.get(), .events = POLLIN, .revents = 0};
    return ::poll(&wait, 1, 0) == 1;
}

void Starter::Release() {
    go_.reset();
    // By now the second half has become the init: the first only waits for it, and may go.
    (void)SignalPidfd(bwrap_.get(), SIGKILL);
    (void)::waitpid(child_, nullptr, 0);
    child_ = -1;
}

std::string Starter::Complaints() {
    std::array<char, 4096> chunk{};
    while (complaints_.size() < kComplaintLimit) {
        const ssize_t got = ::read(stderr_.get(), chunk.data(), chunk.size());
        if (got <= 0) break;
        complaints_.append(chunk.data(), static_cast<std::size_t>(got));
    }
    return complaints_.empty() ? "it said nothing" : Printable(Trim(complaints_), 2000);
}

}  // namespace sbxfs
