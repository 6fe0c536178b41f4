#include "fs/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <filesystem>
#include <latch>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/files.h"
#include "base/log.h"
#include "base/strings.h"
#include "fs/file_system.h"
#include "fs/fuse_server.h"
#include "fs/log_spdlog.h"
#include "fs/service_manager.h"
#include "fs/signal_watch.h"
#include "fs/state_report.h"
#include "sandbox/content_store.h"
#include "sandbox/io_loop.h"
#include "sandbox/outputs.h"
#include "sandbox/providers/fargate/fargate_provider.h"
#include "sandbox/providers/local/local_provider.h"
#include "sandbox/providers/ssh/ssh_provider.h"
#include "sandbox/sandboxes.h"
#include "sandbox/snapshotter.h"
#include "sandbox/ssh_attachment.h"
#include "sandbox/state_dir.h"
#include "sandbox/store.h"

namespace sbxfs {
namespace {

constexpr std::uint64_t kOutputOfAMount = 4ULL << 30;  // contract 4

// What a process that holds keys and serves others should be like.
void HardenProcess() {
    // No core with keys in it, no ptrace by others of the same user.
    (void)::prctl(PR_SET_DUMPABLE, 0);
    struct rlimit files {};
    if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)::setrlimit(RLIMIT_NOFILE, &files);
    }
    (void)::signal(SIGPIPE, SIG_IGN);
    CHECK(::chdir("/") == 0);  // never into our own mount
}

// Blocks of a megabyte come and go with each WRITE. glibc gives such back to the kernel at once, and every page of
// them is then made anew: half of the time a sequential write takes (bench/run.sh --only link --workloads write_big).
void KeepLargeBlocks() {
    constexpr int kLargeBlock = 4 << 20;
    constexpr int kKept = 8 << 20;  // of each heap
    (void)::mallopt(M_MMAP_THRESHOLD, kLargeBlock);
    (void)::mallopt(M_TRIM_THRESHOLD, kKept);
}

// The administrator's limit on the age of a request (Linux 6.15), in seconds; zero: none. A request
// that gets older ends the whole mount, so waits stay below.
Duration LongestWait() {
    std::int64_t shortest = 0;
    for (const char* name : {"max_request_timeout", "default_request_timeout"}) {
        const Result<std::string> text = ReadWholeFile(std::string("/proc/sys/fs/fuse/") + name);
        const std::int64_t seconds = text ? ParseNumber<std::int64_t>(Trim(*text)).value_or(0) : 0;
        if (seconds > 0 && (shortest == 0 || seconds < shortest)) shortest = seconds;
    }
    return std::chrono::seconds(shortest) * 3 / 4;
}

MountSettings SettingsFor(const DaemonOptions& options, const StateDir& state, Logger& logger) {
    MountSettings settings;
    settings.uid = options.mount.uid.value_or(::geteuid());
    settings.gid = options.mount.gid.value_or(::getegid());
    settings.umask = options.mount.umask;
    settings.idmap = options.mount.idmap;
    settings.options = options.mount.Text();
    settings.state_dir = state.path();
    settings.log_file = options.foreground ? "" : state.log();
    settings.mountpoint = options.mountpoint;
    std::error_code ignored;
    settings.program = std::filesystem::read_symlink("/proc/self/exe", ignored).string();
    settings.recent_log = [&logger] { return logger.Recent(); };
    settings.op_timeout = options.mount.op_timeout;
    settings.longest_wait = LongestWait();
    return settings;
}

// The I/O threads, as many as there are cores, at most four.
class Loops {
 public:
    static Result<std::unique_ptr<Loops>> Start(Clock& clock) {
        auto loops = std::make_unique<Loops>();
        const unsigned count = std::clamp(std::thread::hardware_concurrency(), 1U, 4U);
        for (unsigned i = 0; i < count; ++i) {
            std::unique_ptr<IoLoop> loop = TRY(IoLoop::Start("io-" + std::to_string(i + 1), clock));
            loops->loops_.push_back(std::move(loop));
        }
        return loops;
    }
    IoLoop& first() { return *loops_.front(); }
    IoLoop& Next() { return *loops_[next_++ % loops_.size()]; }
    void Stop() {
        for (const auto& loop : loops_)
            loop->Stop();
    }

 private:
    std::vector<std::unique_ptr<IoLoop>> loops_;
    std::atomic<std::size_t> next_{0};
};

std::string HostName() {
    std::array<char, 256> name{};
    return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "localhost";
}

// SIGHUP: templates, providers and limits as the file says now. A file with a mistake changes nothing.
void Reload(const std::string& path, FileSystem& fs, Sandboxes& sandboxes) {
    MountContext& mount = fs.context();
    Result<Config> next = LoadConfig(path);
    if (!next) {
        const Error why =
            std::move(next).error().While("reading the configuration again (it stays as it was)");
        Log(LogLevel::kWarning, "not reloaded", {{"why", why}});
        mount.refusals.Add(::getpid(), "/.mount/config.toml", why);
        return;
    }
    sandboxes.SetLimit(static_cast<std::size_t>(next->max_sandboxes));
    const std::size_t templates = next->templates.size();
    const std::string file = next->file;
    mount.config.Replace(*std::move(next), mount.clock.System());
    Log(LogLevel::kInfo, "reloaded", {{"file", file}, {"templates", templates}});
}

// on_unmount=destroy: asks for the end of every sandbox and waits for it, a minute at most. What is not
// confirmed by then is journaled and goes on when the mount is there again.
void DestroyAll(Sandboxes& sandboxes) {
    const std::vector<SandboxPtr> all = sandboxes.List();
    std::latch asked(static_cast<std::ptrdiff_t>(all.size()));
    for (const SandboxPtr& sandbox : all) {
        sandboxes.Destroy(sandbox->name(), [&asked, name = sandbox->name()](const Status& kept) {
            if (!kept) {
                Log(LogLevel::kWarning, "not destroyed", {{"box", name}, {"why", kept.error()}});
            }
            asked.count_down();
        });
    }
    asked.wait();
    const SteadyTime deadline = RealClock().Steady() + std::chrono::minutes(1);
    for (const SandboxPtr& sandbox : sandboxes.History()) {
        while (!sandbox->IsGone() && RealClock().Steady() < deadline)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        if (!sandbox->IsGone())
            Log(LogLevel::kWarning, "still being destroyed", {{"box", sandbox->name()}});
    }
}

// Changes that were answered before the sandboxes had them: each waits op_timeout at most for its own.
void DrainChanges(const Sandboxes& sandboxes) {
    std::latch drained(1);
    sandboxes.DrainChanges([&drained](const Status& status) {
        if (!status) Log(LogLevel::kError, "changes are given up", {{"why", status.error()}});
        drained.count_down();
    });
    drained.wait();
}

}  // namespace

Status RunDaemon(const DaemonOptions& options, UniqueFunction<void()> ready) {
    HardenProcess();
    KeepLargeBlocks();
    BlockWatchedSignals();
    const aws::Environment environment = aws::CurrentEnvironment();  // no thread has started
    const ServiceManager manager = ServiceManager::FromEnvironment();
    const std::string state_path = options.mount.state_dir.empty()
                                       ? TRY(StateDir::DefaultFor(options.mountpoint))
                                       : options.mount.state_dir;
    const StateDir state =
        TRY(StateDir::Open(state_path, "process " + std::to_string(::getpid()) +
                                           " for the mount on " + options.mountpoint));
    const std::unique_ptr<Logger> logger = TRY(Logger::Make(options.foreground ? "" : state.log()));
    SetLogSink(&logger->sink());
    SetLogLevel(options.debug ? LogLevel::kDebug : LogLevel::kInfo);

    // Each is destroyed before what it uses: the order of these lines is the order of the layers.
    const std::unique_ptr<Store> store = TRY(Store::Open(state));
    const std::unique_ptr<Outputs> outputs = TRY(Outputs::Open(state.outputs()));
    OutputBudget budget(kOutputOfAMount);
    const std::unique_ptr<Loops> loops = TRY(Loops::Start(RealClock()));
    LocalOptions local_options;
    local_options.state_dir = state.path();
    local_options.forbidden = {options.mountpoint};
    const std::unique_ptr<LocalProvider> local =
        TRY(LocalProvider::Open(loops->first(), std::move(local_options)));
    const std::unique_ptr<SshProvider> ssh =
        TRY(SshProvider::Open(loops->first(), {state.path(), SshSelf::Now()}));
    FargateOptions fargate_options{
        state.path(), {store->mount_id(), SshSelf::Now().user + "@" + HostName()}, environment};
    for (const auto& [name, what] : options.config.templates)
        if (what.backend == "fargate") fargate_options.templates.push_back(what);
    const std::unique_ptr<FargateProvider> fargate =
        TRY(FargateProvider::Open(loops->first(), std::move(fargate_options)));
    SshAttacher attacher;
    SandboxServices services;
    services.store = store.get();
    services.outputs = outputs.get();
    services.budget = &budget;
    services.attacher = &attacher;
    services.timeouts.operation = options.mount.op_timeout;
    services.write_behind = options.mount.writeback;
    std::function<void(const std::string&, const std::string&, const Error&)> on_lost;
    services.on_lost = [&on_lost](const std::string& box, const std::string& path,
                                  const Error& why) { on_lost(box, path, why); };
    services.contents =
        std::make_shared<ContentStore>(static_cast<std::size_t>(options.config.cache_mib) << 20);
    Sandboxes sandboxes(
        services, Sandboxes::Config{},
        [&local, &ssh, &fargate](const Template& what) -> Result<Provider*> {
            if (what.backend == "local") return local.get();
            if (what.backend == "ssh") return ssh.get();
            if (what.backend == "fargate") return fargate.get();
            return Error(Errno{EOPNOTSUPP}, "there is no backend '" + what.backend + "'");
        },
        [&loops]() -> Loop& { return loops->Next(); });
    sandboxes.SetLimit(static_cast<std::size_t>(options.config.max_sandboxes));
    (void)TRY(sandboxes.Load());
    MountSettings settings = SettingsFor(options, state, *logger);
    settings.written_templates = TRY(store->LoadTemplates());
    settings.keep_template = [&store](const std::string& name, const std::optional<Template>& what,
                                      Done done) {
        store->PutTemplate(name, what, std::move(done));
    };
    settings.strangers = [&fargate] { return fargate->Strangers(); };
    settings.snapshotters = {local->snapshotter()};
    store->StartThread();
    outputs->StartThread();
    FileSystem fs(sandboxes, loops->first(), RealClock(), std::move(settings), options.config);

    sandboxes.SetMount(fs.context().kernel_cache);
    on_lost = [&fs](const std::string& box, const std::string& path, const Error& why) {
        fs.context().refusals.Add(0, "/" + box + "/fs" + path, why);
    };

    const FuseServer::Options fuse_options{options.mountpoint, options.source,
                                           options.mount.ForKernel()};
    std::unique_ptr<FuseServer> server = TRY(FuseServer::Mount(fuse_options, fs));
    sandboxes.Start();
    Log(LogLevel::kInfo, "mounted", {{"at", options.mountpoint}, {"state", state.path()}});
    const std::string mounted = "STATUS=mounted on " + options.mountpoint;
    auto signals = std::make_unique<SignalWatch>([&](int signal) {
        if (signal == SIGUSR1) return LogState(fs.context());
        manager.TellReloading();
        Reload(options.mount.config, fs, sandboxes);
        manager.Tell("READY=1");
    });
    if (ready) ready();
    manager.Tell("READY=1\n" + mounted);
    const Status served = server->Run();
    signals.reset();
    manager.Tell("STOPPING=1\nSTATUS=unmounting " + options.mountpoint);

    // Requests have stopped. Now those who wait, then the machines, then the threads, then the session,
    // which all answers need.
    Log(LogLevel::kInfo, "unmounting", {{"at", options.mountpoint}});
    fs.FailParked();
    DrainChanges(sandboxes);
    if (options.mount.on_unmount == OnUnmount::kDestroy) DestroyAll(sandboxes);
    sandboxes.Stop();
    store->Flush();
    outputs->Flush();
    loops->Stop();
    store->Flush();  // what the machines' last jobs wanted kept
    outputs->Flush();
    server.reset();
    SetLogSink(nullptr);
    return served;
}

}  // namespace sbxfs
