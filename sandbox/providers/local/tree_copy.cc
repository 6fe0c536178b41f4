#include "sandbox/providers/local/tree_copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <utility>

#include "base/strings.h"
#include "base/unique_fd.h"
#include "sandbox/providers/local/uid_range.h"

namespace sbxfs {
namespace {

constexpr int kMaxDepth = 500;                  // two descriptors a level
constexpr std::uint64_t kKeepFree = 32U << 20;  // for the journal, whose disk this is
constexpr std::size_t kChunk = 1U << 20;
constexpr std::uint32_t kNobody = 65534;

struct CloseListing {
    void operator()(DIR* dir) const { (void)::closedir(dir); }
};

Error Failed(std::string_view doing, const std::string& path) {
    const int code = errno;
    return SystemError(code, std::string(doing) + " " + Printable(path, 200), Blame::kRemote);
}

// The little-endian number at `at`, replaced by what `change` makes of it.
template <class F>
void ChangeNumber(std::string& bytes, std::size_t at, F change) {
    std::uint32_t number = 0;
    std::memcpy(&number, bytes.data() + at, sizeof number);
    number = change(le32toh(number));
    number = htole32(number);
    std::memcpy(bytes.data() + at, &number, sizeof number);
}

class Copier {
 public:
    Copier(const CopyPlan& plan, CopyCount& count) : plan_(plan), count_(count) {}

    Status Dir(int from_parent, int to_parent, const std::string& name, const std::string& path,
               int depth) {
        if (depth > kMaxDepth) {
            return Error(Errno{ENAMETOOLONG},
                         "directories lie more than " + std::to_string(kMaxDepth) +
                             " deep in each other at " + Printable(path, 200) + ": flatten them",
                         Blame::kRemote);
        }
        const UniqueFd from(
            ::openat(from_parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!from) return Failed("opening", path);
        if (::mkdirat(to_parent, name.c_str(), 0700) != 0) return Failed("making", path);
        UniqueFd to(
            ::openat(to_parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!to) return Failed("opening the copy of", path);
        if (depth == 0) top_ = to.get();
        struct stat found {};
        if (::fstat(from.get(), &found) != 0) return Failed("looking at", path);
        if (depth == 0) device_ = found.st_dev;
        ++count_.files;
        const bool emptied =
            std::find(plan_.emptied.begin(), plan_.emptied.end(), path) != plan_.emptied.end();
        if (!emptied) (void)TRY(Entries(from.get(), to.get(), path, depth));
        return Finish(from.get(), to.get(), found, path);
    }

 private:
    Status Entries(int from, int to, const std::string& path, int depth) {
        const UniqueFd again(::openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!again) return Failed("listing", path);
        UniqueFd listed(::dup(again.get()));
        const std::unique_ptr<DIR, CloseListing> entries(::fdopendir(listed.get()));
        if (!entries) return Failed("listing", path);
        (void)listed.release();  // entries closes it
        for (;;) {
            errno = 0;
            // NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is this function's own.
            const dirent* entry = ::readdir(entries.get());
            if (entry == nullptr) return errno == 0 ? Ok() : Status(Failed("listing", path));
            const std::string name = entry->d_name;
            if (name == "." || name == "..") continue;
            (void)TRY(Entry(from, to, name, path.empty() ? name : path + "/" + name, depth));
        }
    }

    Status Entry(int from, int to, const std::string& name, const std::string& path, int depth) {
        struct stat found {};
        if (::fstatat(from, name.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0) {
            return errno == ENOENT ? Ok() : Status(Failed("looking at", path));  // gone meanwhile
        }
        if (found.st_dev != device_) return Ok();  // something is mounted there
        if (S_ISDIR(found.st_mode)) return Dir(from, to, name, path, depth + 1);
        if (S_ISREG(found.st_mode)) return File(from, to, name, path, found);
        ++count_.files;
        if (S_ISLNK(found.st_mode)) return Link(from, to, name, path, found);
        return Special(to, name, path, found);
    }

    Status File(int from, int to, const std::string& name, const std::string& path,
                const struct stat& found) {
        if (found.st_nlink > 1) {
            const auto [first, is_new] = links_.emplace(found.st_ino, path);
            // A path that is too long to be spelled out gets a copy of its own.
            if (!is_new && ::linkat(top_, first->second.c_str(), to, name.c_str(), 0) == 0)
                return Ok();
        }
        ++count_.files;
        const UniqueFd source(
            ::openat(from, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
        if (!source) return Failed("opening", path);
        const UniqueFd copy(
            ::openat(to, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
        if (!copy) return Failed("making", path);
        const auto blocks = static_cast<std::uint64_t>(found.st_blocks) * 512;
        count_.bytes += blocks;
        if (::ioctl(copy.get(), FICLONE, source.get()) != 0) {
            (void)TRY(CheckRoom(copy.get(), blocks));
            (void)TRY(Bytes(source.get(), copy.get(), found.st_size, path));
        }
        return Finish(source.get(), copy.get(), found, path);
    }

    Status CheckRoom(int copy, std::uint64_t blocks) const {
        struct statvfs room {};
        if (::fstatvfs(copy, &room) != 0) return Ok();
        const std::uint64_t free = std::uint64_t{room.f_bavail} * room.f_frsize;
        if (free >= blocks + kKeepFree) return Ok();
        return Error(Errno{ENOSPC},
                     "the disk of the state directory has no room for the copy: free some space "
                     "there, or remove something in the sandbox");
    }

    static Status Bytes(int source, int copy, off_t size, const std::string& path) {
        std::vector<char> buffer;
        for (off_t at = 0; at < size;) {
            at = ::lseek(source, at, SEEK_DATA);
            if (at < 0 && errno == ENXIO) break;  // a hole to the end
            if (at < 0) return Failed("reading", path);
            const off_t end = ::lseek(source, at, SEEK_HOLE);
            if (end < 0) return Failed("reading", path);
            while (at < end) {
                const auto left = static_cast<std::size_t>(end - at);
                off_t to = at;
                ssize_t moved = ::copy_file_range(source, &at, copy, &to, left, 0);
                if (moved < 0 && errno != ENOSPC && errno != EDQUOT && errno != EIO) {
                    buffer.resize(kChunk);
                    moved = ::pread(source, buffer.data(), std::min(left, kChunk), at);
                    if (moved > 0)
                        moved = ::pwrite(copy, buffer.data(), static_cast<std::size_t>(moved), at);
                    if (moved > 0) at += moved;
                }
                if (moved < 0) return Failed("copying", path);
                if (moved == 0) break;  // it has become shorter
            }
            if (at < end) break;
        }
        if (::ftruncate(copy, size) != 0) return Failed("copying", path);
        return Ok();
    }

    Status Link(int from, int to, const std::string& name, const std::string& path,
                const struct stat& found) const {
        std::array<char, PATH_MAX> target{};
        const ssize_t size = ::readlinkat(from, name.c_str(), target.data(), target.size() - 1);
        if (size < 0) return Failed("reading", path);
        if (::symlinkat(target.data(), to, name.c_str()) != 0) return Failed("making", path);
        (void)TRY(Own(to, name, found, path));
        const std::array<timespec, 2> times{found.st_atim, found.st_mtim};
        (void)::utimensat(to, name.c_str(), times.data(), AT_SYMLINK_NOFOLLOW);
        return Ok();
    }

    // Whiteouts are character devices 0:0, which anybody may make (Linux 5.8). Other devices no sandbox can have made.
    Status Special(int to, const std::string& name, const std::string& path,
                   const struct stat& found) const {
        const bool whiteout = S_ISCHR(found.st_mode) && found.st_rdev == 0;
        if (!whiteout && !S_ISFIFO(found.st_mode) && !S_ISSOCK(found.st_mode)) return Ok();
        if (::mknodat(to, name.c_str(), found.st_mode, 0) != 0) return Failed("making", path);
        (void)TRY(Own(to, name, found, path));
        // The umask took bits from mknod's mode, and the change of owner the set-id bits.
        if (!whiteout && ::fchmodat(to, name.c_str(), found.st_mode & 07777, 0) != 0)
            return Failed("setting the mode of", path);
        return Ok();
    }

    std::uint32_t Shifted(std::uint32_t id) const {
        if (!plan_.ids) return id;
        const std::uint32_t inside = id - plan_.ids->from;
        return plan_.ids->to +
               (id >= plan_.ids->from && inside < kIdsPerSandbox ? inside : kNobody);
    }

    Status Own(int dir, const std::string& name, const struct stat& found,
               const std::string& path) const {
        const int flags = name.empty() ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW;
        if (::fchownat(dir, name.c_str(), Shifted(found.st_uid), Shifted(found.st_gid), flags) == 0)
            return Ok();
        // An ordinary user's helper cannot give away what it does not map, and needs not.
        if (!plan_.ids && ::geteuid() != 0) return Ok();
        if (errno == EINVAL || (errno == EPERM && !plan_.ids)) return Ok();
        return Failed("giving away", path);
    }

    // The owner first, which takes set-id bits and capabilities away; the times last.
    Status Finish(int from, int to, const struct stat& found, const std::string& path) const {
        (void)TRY(Own(to, "", found, path));
        (void)TRY(Attributes(from, to, path));
        if (::fchmod(to, found.st_mode & 07777) != 0) return Failed("changing the mode of", path);
        const std::array<timespec, 2> times{found.st_atim, found.st_mtim};
        if (::futimens(to, times.data()) != 0) return Failed("changing the times of", path);
        return Ok();
    }

    Status Attributes(int from, int to, const std::string& path) const {
        std::array<char, 65536> names{};
        const ssize_t size = ::flistxattr(from, names.data(), names.size());
        if (size <= 0) return Ok();  // none, or none here
        for (const std::string& name :
             Split({names.data(), static_cast<std::size_t>(size)}, '\0')) {
            if (name.empty()) continue;
            std::string value(65536, '\0');
            const ssize_t got = ::fgetxattr(from, name.c_str(), value.data(), value.size());
            if (got < 0) continue;
            value.resize(static_cast<std::size_t>(got));
            Shift(name, value);
            if (::fsetxattr(to, name.c_str(), value.data(), value.size(), 0) == 0) continue;
            // Without these a layer means something else.
            if (name.find("overlay.") != std::string::npos || errno == ENOSPC)
                return Failed("copying attribute " + name + " of", path);
        }
        return Ok();
    }

    // Ids that are kept in attributes: of capabilities (capabilities(7), version 3) and ACLs (acl(5)).
    void Shift(const std::string& name, std::string& value) const {
        if (!plan_.ids) return;
        const auto shifted = [this](std::uint32_t id) { return Shifted(id); };
        if (name == "security.capability" && value.size() == 24) ChangeNumber(value, 20, shifted);
        if (!name.starts_with("system.posix_acl_")) return;
        for (std::size_t at = 4; at + 8 <= value.size(); at += 8) {
            const auto tag = static_cast<unsigned char>(value[at]);
            if (tag == 0x02 || tag == 0x08) ChangeNumber(value, at + 4, shifted);
        }
    }

    const CopyPlan& plan_;
    CopyCount& count_;
    int top_ = -1;
    dev_t device_ = 0;
    std::map<ino_t, std::string> links_;  // the first path of a file with several names
};

}  // namespace

Status CopyTree(int from, const std::string& name, int to, const CopyPlan& plan, CopyCount& count) {
    return Copier(plan, count).Dir(from, to, name, "", 0);
}

}  // namespace sbxfs
