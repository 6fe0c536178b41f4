// How depth costs nothing: down to kMaxOpen levels directories are entered one inside the other.
// One that lies deeper is moved up into the top directory, under a fresh name, and taken apart from
// there; so descriptors and stack stay bounded whatever the tree, and no path is ever spelled out.
#include "sandbox/providers/local/remover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/strings.h"
#include "base/unique_fd.h"

namespace sbxfs {
namespace {

constexpr int kMaxOpen = 32;

struct CloseRemoved {
    void operator()(DIR* dir) const { (void)::closedir(dir); }
};
using DirPtr = std::unique_ptr<DIR, CloseRemoved>;

UniqueFd OpenBeneath(int parent, const std::string& name, int flags) {
    open_how how{};
    how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC | O_NOFOLLOW);
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
    return UniqueFd(
        static_cast<int>(::syscall(SYS_openat2, parent, name.c_str(), &how, sizeof how)));
}

// A directory that its owner has closed to everybody, or marked so that its entries may not change.
void OpenUp(int parent, const std::string& name) {
    const UniqueFd place = OpenBeneath(parent, name, O_PATH | O_DIRECTORY);
    if (!place) return;
    // chmod(2) through the descriptor: by name it would follow a link, and fchmod(2) refuses
    // O_PATH.
    const std::string self = "/proc/self/fd/" + std::to_string(place.get());
    (void)::chmod(self.c_str(), 0700);
}

void ClearFlags(int parent, const std::string& name) {
    const UniqueFd file = OpenBeneath(parent, name, O_RDONLY | O_NONBLOCK);
    if (!file) return;
    int flags = 0;
    if (::ioctl(file.get(), FS_IOC_GETFLAGS, &flags) != 0) return;
    if ((flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)) == 0) return;
    flags &= ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
    (void)::ioctl(file.get(), FS_IOC_SETFLAGS, &flags);
}

class Remover {
 public:
    explicit Remover(int top) : top_(top) {}

    // Removes the directory `name` of `parent`; what lies too deep in it is left in top_, in
    // moved().
    Status Take(int parent, const std::string& name, int level) {
        UniqueFd dir = OpenBeneath(parent, name, O_RDONLY | O_DIRECTORY);
        if (!dir && (errno == EACCES || errno == EPERM)) {
            OpenUp(parent, name);
            dir = OpenBeneath(parent, name, O_RDONLY | O_DIRECTORY);
        }
        if (!dir) return Failed("opening", name);
        const DirPtr entries(::fdopendir(dir.get()));
        if (!entries) return Failed("reading", name);
        const int fd = dir.release();  // entries closes it
        // Removing while reading may make readdir(3) skip entries: again from the front until a
        // pass finds none.
        for (bool found = true; found;) {
            found = false;
            ::rewinddir(entries.get());
            // NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is this function's own.
            while (const dirent* entry = ::readdir(entries.get())) {
                const std::string child = entry->d_name;
                if (child == "." || child == "..") continue;
                (void)TRY(Drop(fd, child, entry->d_type, level));
                found = true;
            }
        }
        if (RemoveDir(parent, name)) return Ok();
        return Failed("removing", name);
    }

    std::vector<std::string>& moved() { return moved_; }

 private:
    Status Drop(int dir, const std::string& child, unsigned char type, int level) {
        if (type != DT_DIR && Unlink(dir, child)) return Ok();
        if (RemoveDir(dir, child)) return Ok();
        if (level < kMaxOpen) return Take(dir, child, level + 1);
        return MoveUp(dir, child);
    }

    static bool Unlink(int dir, const std::string& child) {
        if (::unlinkat(dir, child.c_str(), 0) == 0 || errno == ENOENT) return true;
        if (errno != EPERM && errno != EACCES) return false;
        Unprotect(dir, child);
        return ::unlinkat(dir, child.c_str(), 0) == 0 || errno == ENOENT;
    }

    static bool RemoveDir(int dir, const std::string& child) {
        if (::unlinkat(dir, child.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return true;
        if (errno != EPERM && errno != EACCES) return false;
        Unprotect(dir, child);
        return ::unlinkat(dir, child.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT;
    }

    static void Unprotect(int dir, const std::string& child) {
        ClearFlags(dir, child);
        ClearFlags(dir, ".");
        (void)::fchmod(dir, 0700);
    }

    Status MoveUp(int dir, const std::string& child) {
        const std::string fresh = prefix_ + std::to_string(next_++);
        if (::renameat(dir, child.c_str(), top_, fresh.c_str()) != 0) {
            // Moving a directory changes its "..", so it must be writable itself.
            Unprotect(dir, child);
            OpenUp(dir, child);
            if (::renameat(dir, child.c_str(), top_, fresh.c_str()) != 0)
                return Failed("moving", child);
        }
        moved_.push_back(fresh);
        return Ok();
    }

    static Status Failed(std::string_view doing, const std::string& name) {
        return SystemError(errno, std::string(doing) + " " + Printable(name, 80), Blame::kRemote);
    }

    int top_;
    // Not to meet what an earlier, killed attempt has left there.
    const std::string prefix_ = ".gone-" + Hex(RandomBytes(6)) + "-";
    std::uint64_t next_ = 0;
    std::vector<std::string> moved_;
};

}  // namespace

Status RemoveTree(int parent, const std::string& name) {
    struct stat found {};
    if (::fstatat(parent, name.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT ? Ok() : Status(SystemError(errno, "stat " + Printable(name, 80)));
    }
    if (!S_ISDIR(found.st_mode)) {
        if (::unlinkat(parent, name.c_str(), 0) == 0 || errno == ENOENT) return Ok();
        return SystemError(errno, "removing " + Printable(name, 80));
    }
    Remover remover(parent);
    (void)TRY(remover.Take(parent, name, 0));
    while (!remover.moved().empty()) {
        const std::string next = std::move(remover.moved().back());
        remover.moved().pop_back();
        (void)TRY(remover.Take(parent, next, 0));
    }
    return Ok();
}

}  // namespace sbxfs
