#include "sandbox/providers/local/destroyer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/strings.h"
#include "sandbox/providers/local/cgroups.h"
#include "sandbox/providers/local/mounts.h"
#include "sandbox/providers/local/remover.h"
#include "sandbox/providers/local/uid_range.h"

namespace sbxfs {
namespace {

constexpr int kDestroyLockLimitMs =
    120'000;  // behind another destroy, which may have a million files to remove
constexpr int kKillLimitMs = 20'000;
constexpr int kCgroupLimitMs = 5'000;
constexpr int kDissolveMs = 1'500;

// Waits for the lock; whoever holds it to launch is killed, and what it started then ends by itself
// (starter.h). Nothing when the box has gone meanwhile.
Result<std::optional<UniqueFd>> LockForDestroy(Box& box) {
    const auto deadline =
        std::chrono::steady_clock::now() + std::chrono::milliseconds(kDestroyLockLimitMs);
    for (;;) {
        auto lock = box.TryLock(Role::kDestroy);
        if (box.Gone()) return std::optional<UniqueFd>();
        if (!lock) return std::move(lock).error();
        if (*lock) return lock;
        const auto holder = box.ReadHolder();
        const std::optional<UniqueFd> process =
            holder && holder->role == Role::kLaunch ? holder->process.Open() : std::nullopt;
        if (process) (void)TRY(KillAndWait(process->get(), kKillLimitMs));
        if (std::chrono::steady_clock::now() >= deadline) {
            return Error(Errno{EBUSY}, "another destroy of this sandbox does not end",
                         Blame::kRemote);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(2));  // flock(2) has no time limit
    }
}

std::string PidNamespaceOf(const std::string& process) {
    std::error_code hidden;
    return std::filesystem::read_symlink("/proc/" + process + "/ns/pid", hidden).string();
}

// Everybody in another pid namespace who has this box's `alive` open, which is how a process of the
// box is known when no pid was recorded. (In our own namespace it is a daemon that looks whether
// the sandbox is alive.)
std::vector<pid_t> HoldersOf(const Box& box) {
    struct stat alive {};
    std::vector<pid_t> holders;
    if (::fstatat(box.dir(), "alive", &alive, AT_SYMLINK_NOFOLLOW) != 0) return holders;
    std::error_code error;
    const std::string own = PidNamespaceOf("self");
    for (const auto& process : std::filesystem::directory_iterator("/proc", error)) {
        const auto pid = ParseNumber<pid_t>(process.path().filename().string());
        if (!pid) continue;
        const std::string theirs = PidNamespaceOf(std::to_string(*pid));
        if (theirs.empty() || theirs == own) continue;
        std::error_code hidden;  // another user's, or gone
        for (const auto& fd : std::filesystem::directory_iterator(process.path() / "fd", hidden)) {
            struct stat file {};
            if (::stat(fd.path().c_str(), &file) != 0) continue;
            if (file.st_dev != alive.st_dev || file.st_ino != alive.st_ino) continue;
            holders.push_back(*pid);
            break;
        }
    }
    return holders;
}

void UnmountBelow(const std::string& path) {
    std::vector<MountPoint> points = MountPointsBelow(path);
    std::reverse(points.begin(), points.end());  // what lies deeper first
    for (const MountPoint& point : points)
        (void)::umount2(point.path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
}

Status RemoveCgroups(Box& box) {
    const auto text = box.Read("cgroups");
    if (!text) return Ok();
    for (const std::string& directory : Split(Trim(*text), '\n')) {
        if (!directory.empty()) (void)TRY(RemoveCgroup(directory, kCgroupLimitMs));
    }
    return Ok();
}

std::vector<std::string> Entries(const Box& box) {
    std::vector<std::string> names;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(box.ShortPath("."), error)) {
        names.push_back(entry.path().filename().string());
    }
    return names;
}

}  // namespace

Status EndProcesses(Box& box, int limit_ms) {
    if (!box.Has("alive")) return Ok();  // never got so far as to start anything
    if (const auto init = box.Init()) {
        if (const auto pidfd = init->Open()) (void)TRY(KillAndWait(pidfd->get(), limit_ms));
    }
    // Half-made ones end by themselves as soon as their launcher has.
    if (box.HoldAlive(std::min(limit_ms, kDissolveMs))) return Ok();
    for (const pid_t pid : HoldersOf(box)) {
        const auto record = ProcessRecord::Of(pid);
        const auto pidfd = record ? record->Open() : std::nullopt;
        if (pidfd) (void)TRY(KillAndWait(pidfd->get(), limit_ms));
    }
    (void)TRY(box.HoldAlive(limit_ms));
    return Ok();
}

Status ClearAfterRun(Box& box) {
    UnmountBelow(box.path());
    (void)TRY(RemoveCgroups(box));
    box.Remove("cgroups");
    box.Remove("ssh.sock");
    return Ok();
}

Status ClearBox(Box& box, Clear clear) {
    (void)TRY(ClearAfterRun(box));
    (void)TRY(RemoveTree(box.dir(), "layer"));
    // Only now, with no file of these ids left, may another sandbox have them.
    const auto range = ParseNumber<std::uint32_t>(Trim(box.Read("uid_range").value_or("")));
    if (range && ::geteuid() == 0) FreeUidRange(*range, box.path(), kUidRegistry);
    for (const std::string& name : Entries(box)) {
        if (name == "lock" || name == "holder" || name == "destroyed") continue;
        if (clear == Clear::kForAnotherLaunch && name == "alive") continue;
        (void)TRY(RemoveTree(box.dir(), name));
    }
    return Ok();
}

Status DestroyBox(const DestroyOrder& order) {
    Result<Box> box = Box::Open(order.state_dir, order.token);
    if (!box && box.error().code() == Errno{ENOENT}) return Ok();
    if (!box) return std::move(box).error();
    Status marked = box->MarkDestroyed();
    if (box->Gone()) return Ok();
    // On a full disk there may be no room for the tombstone; what it keeps out is a launch, which
    // needs more room.
    if (!marked && marked.error().code() != Errno{ENOSPC} && marked.error().code() != Errno{EDQUOT})
        return marked;
    const std::optional<UniqueFd> lock = TRY(LockForDestroy(*box));
    if (!lock) return Ok();
    (void)TRY(EndProcesses(*box, kKillLimitMs));
    (void)TRY(ClearBox(*box, Clear::kForGood));
    // Lock and tombstone are the last to go: a launch that comes late finds the tombstone, no lock,
    // or no directory.
    for (const char* name : {"holder", "lock", "destroyed"})
        box->Remove(name);
    if (::rmdir(box->path().c_str()) != 0 && errno != ENOENT) {
        return SystemError(errno, "removing " + box->path());
    }
    return Ok();
}

}  // namespace sbxfs
