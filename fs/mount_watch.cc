#include "fs/mount_watch.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "fs/mounts.h"

namespace sbxfs {
namespace {

constexpr int kLookAgainMs = 200;  // whether the last open file is closed

// Of the file system on `mountpoint`; empty if there is none of ours.
std::string DeviceAt(const std::string& mountpoint) {
    std::string device;
    for (const SbxfsMount& mount : AllSbxfsMounts()) {
        if (mount.path == mountpoint) device = mount.device;  // the uppermost is listed last
    }
    return device;
}

bool IsMounted(const std::string& device) {
    const std::vector<SbxfsMount> mounts = AllSbxfsMounts();
    return std::any_of(mounts.begin(), mounts.end(),
                       [&device](const SbxfsMount& mount) { return mount.device == device; });
}

}  // namespace

MountWatch::MountWatch(const std::string& mountpoint, UniqueFunction<bool()> idle,
                       UniqueFunction<void()> gone)
    : idle_(std::move(idle)),
      gone_(std::move(gone)),
      changes_(::open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC)) {
    const std::string device = DeviceAt(mountpoint);
    std::array<int, 2> ends{};
    if (!changes_ || device.empty() || ::pipe2(ends.data(), O_CLOEXEC) != 0) return;
    stopped_.reset(ends[0]);
    stop_.reset(ends[1]);
    thread_ = std::thread([this, device] { Run(device); });
}

MountWatch::~MountWatch() {
    stop_.reset();
    if (thread_.joinable()) thread_.join();
}

void MountWatch::Run(const std::string& device) {
    (void)::pthread_setname_np(::pthread_self(), "mounts");
    sigset_t all;
    (void)::sigfillset(&all);
    (void)::pthread_sigmask(SIG_BLOCK, &all, nullptr);  // main takes signals
    for (;;) {
        const bool there = IsMounted(device);
        if (!there && idle_()) return gone_();
        std::array<pollfd, 2> wait{pollfd{.fd = stopped_.get(), .events = POLLIN, .revents = 0},
                                   pollfd{.fd = changes_.get(), .events = POLLPRI, .revents = 0}};
        (void)::poll(wait.data(), wait.size(), there ? -1 : kLookAgainMs);
        if (wait[0].revents != 0) return;
    }
}

}  // namespace sbxfs
