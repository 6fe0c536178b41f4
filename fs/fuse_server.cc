#include "fs/fuse_server.h"

#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "base/log.h"
#include "fs/connection_guard.h"
#include "fs/file_system.h"
#include "fs/fuse_channel.h"
#include "fs/fuse_ops.h"
#include "fs/mount_watch.h"
#include "fs/mounting_needs.h"

namespace sbxfs {
namespace {

// A kill -9 at a bad moment leaves the clients waiting.
constexpr const char* kUnguarded = "nobody ends the connection if this process is killed";
constexpr unsigned kThreads = 4;  // none of them ever waits

Error MountFailure(const FuseServer::Options& options) {
    if (const Status device = CheckFuseDevice(); !device) return device.error();
    if (const Status helper = CheckFuseHelper(); !helper) return helper.error();
    return {Errno{EIO}, "mounting on " + options.mountpoint + " failed; the line above says why"};
}

// libfuse 3.14 knows neither the code nor its number: one header, whose `error` is the code.
constexpr std::int32_t kIncEpoch = 8;  // FUSE_NOTIFY_INC_EPOCH, Linux 6.16

class FuseNotifier final : public KernelNotifier {
 public:
    explicit FuseNotifier(fuse_session* session) : session_(session) {}

    bool ForgetNames() override {
        const fuse_out_header header{.len = sizeof header, .error = kIncEpoch, .unique = 0};
        return ::write(fuse_session_fd(session_), &header, sizeof header) == sizeof header;
    }
    void ForgetAttributes(Ino ino) override {
        (void)fuse_lowlevel_notify_inval_inode(session_, Raw(ino), -1, 0);
    }
    void ForgetPages(Ino ino) override {
        (void)fuse_lowlevel_notify_inval_inode(session_, Raw(ino), 0, 0);
    }

 private:
    fuse_session* const session_;
};

}  // namespace

struct FuseServer::Session {
    FileSystem& fs;
    fuse_session* fuse = nullptr;
    bool mounted = false;
    bool handlers = false;
    std::unique_ptr<ConnectionGuard> guard;

    explicit Session(FileSystem& served) : fs(served) {}
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session() {
        fs.context().kernel.Stop();
        fs.context().kernel_cache.Stop();
        if (fuse == nullptr) return;
        if (handlers) fuse_remove_signal_handlers(fuse);
        if (mounted) fuse_session_unmount(fuse);
        guard.reset();  // until here a kill may still find somebody who waits
        fuse_session_destroy(fuse);
    }
};

FuseServer::FuseServer(std::unique_ptr<Session> session, FileSystem& fs, std::string mountpoint)
    : session_(std::move(session)), fs_(fs), mountpoint_(std::move(mountpoint)) {}
FuseServer::~FuseServer() = default;

Result<std::unique_ptr<FuseServer>> FuseServer::Mount(const Options& options, FileSystem& fs) {
    auto session = std::make_unique<Session>(fs);
    fuse_args args = FUSE_ARGS_INIT(0, nullptr);
    // libfuse takes commas and backslashes in a value escaped.
    std::string source;
    for (const char c : options.source) {
        if (c == ',' || c == '\\') source += '\\';
        source += c;
    }
    std::string list = "default_permissions,nosuid,nodev,subtype=sbxfs,fsname=" + source;
    for (const std::string& option : options.options)
        list += "," + option;
    const bool added = fuse_opt_add_arg(&args, "sbxfs") == 0 &&
                       fuse_opt_add_arg(&args, "-o") == 0 &&
                       fuse_opt_add_arg(&args, list.c_str()) == 0;
    if (added) session->fuse = fuse_session_new(&args, &FuseOps(), sizeof(fuse_lowlevel_ops), &fs);
    fuse_opt_free_args(&args);  // fuse_session_new has copied what it keeps
    if (session->fuse == nullptr) {
        return Error(Errno{EINVAL}, "libfuse does not take these mount options: " + list);
    }
    if (fuse_session_mount(session->fuse, options.mountpoint.c_str()) != 0)
        return MountFailure(options);
    session->mounted = true;
    const fuse_custom_io io = FuseChannel();
    if (fuse_session_custom_io(session->fuse, &io, fuse_session_fd(session->fuse)) != 0) {
        return Error(Errno{EIO}, "libfuse refuses its own descriptor", Blame::kBug);
    }
    Result<std::unique_ptr<ConnectionGuard>> guard = ConnectionGuard::Start(options.mountpoint);
    if (guard)
        session->guard = *std::move(guard);
    else
        Log(LogLevel::kInfo, kUnguarded, {{"why", guard.error()}});
    fs.context().kernel_cache.Connect(std::make_unique<FuseNotifier>(session->fuse));
    return std::unique_ptr<FuseServer>(new FuseServer(std::move(session), fs, options.mountpoint));
}

Status FuseServer::Run() {
    if (fuse_set_signal_handlers(session_->fuse) != 0) {
        return Error(Errno{EIO}, "signal handlers could not be installed", Blame::kBug);
    }
    session_->handlers = true;
    const MountWatch watch(
        mountpoint_, [this] { return fs_.context().handles.Count() == 0; },
        [main = ::pthread_self()] { (void)::pthread_kill(main, SIGTERM); });
    if (session_->guard != nullptr) {
        if (const Status watching = session_->guard->AwaitWatching(); !watching)
            Log(LogLevel::kInfo, kUnguarded, {{"why", watching.error()}});
    }
    fuse_loop_config* config = fuse_loop_cfg_create();
    fuse_loop_cfg_set_max_threads(config, kThreads);  // idle ones stay, as is libfuse's default
    fuse_loop_cfg_set_clone_fd(config, 0);
    const int code = fuse_session_loop_mt(session_->fuse, config);
    fuse_loop_cfg_destroy(config);
    // 0: unmounted. Positive: the signal that asked us to stop.
    if (code < 0) return SystemError(-code, "serving the mount");
    return Ok();
}

}  // namespace sbxfs
