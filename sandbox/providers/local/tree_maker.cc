#include "sandbox/providers/local/tree_maker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <memory>

#include "base/files.h"
#include "base/strings.h"
#include "sandbox/providers/local/mounts.h"

namespace sbxfs {
namespace {

constexpr int kMaxCopied = 10'000;
constexpr int kMaxDepth = 8;
constexpr off_t kMaxFile = 4 << 20;

struct CloseSource {
    void operator()(DIR* dir) const { (void)::closedir(dir); }
};

}  // namespace

TreeMaker::TreeMaker(int root, Owner owner)
    : root_(root),
      old_uid_(static_cast<uid_t>(::setfsuid(static_cast<uid_t>(-1)))),
      old_gid_(static_cast<gid_t>(::setfsgid(static_cast<gid_t>(-1)))) {
    // The group first: once the user is not root any more the group can no longer be changed.
    (void)::setfsgid(owner.gid);
    (void)::setfsuid(owner.uid);
}

TreeMaker::~TreeMaker() {
    (void)::setfsuid(old_uid_);
    (void)::setfsgid(old_gid_);
}

Status TreeMaker::Dir(const std::string& path, mode_t mode) {
    if (::mkdirat(root_, path.c_str(), mode) != 0) {
        if (errno == EEXIST) return Ok();
        return SystemError(errno, "mkdir " + path + " in the sandbox");
    }
    // mkdir(2) is subject to the umask and never sets the sticky bit on some file systems.
    if (::fchmodat(root_, path.c_str(), mode, 0) != 0) {
        return SystemError(errno, "chmod " + path + " in the sandbox");
    }
    return Ok();
}

Status TreeMaker::Dirs(const std::string& path) {
    std::string parent = ".";
    for (const std::string& name : Split(path, '/')) {
        const UniqueFd dir = TRY(OpenInRoot(root_, parent, O_DIRECTORY));
        if (::mkdirat(dir.get(), name.c_str(), 0755) != 0 && errno != EEXIST) {
            return SystemError(errno, "mkdir /" + path + " in the sandbox");
        }
        parent += "/" + name;
    }
    return Ok();
}

Status TreeMaker::File(const std::string& path, std::string_view bytes, mode_t mode) {
    const UniqueFd fd(
        ::openat(root_, path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
    if (!fd) return SystemError(errno, "creating " + path + " in the sandbox");
    if (::fchmod(fd.get(), mode) != 0) return SystemError(errno, "chmod " + path);
    return WriteAll(fd.get(), bytes);
}

Status TreeMaker::EmptyFile(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash);
    const UniqueFd dir = TRY(OpenInRoot(root_, parent, O_DIRECTORY));
    const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
    const UniqueFd made(::openat(dir.get(), name.c_str(),
                                 O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!made && errno != EEXIST)
        return SystemError(errno, "creating /" + path + " in the sandbox");
    return Ok();
}

Status TreeMaker::Link(const std::string& path, const std::string& target) {
    if (::symlinkat(target.c_str(), root_, path.c_str()) != 0 && errno != EEXIST) {
        return SystemError(errno, "linking " + path + " in the sandbox");
    }
    return Ok();
}

void TreeMaker::CopyPublic(const std::string& source, const std::string& path) {
    CopyPublicAt(AT_FDCWD, source, path, 0);
}

void TreeMaker::CopyPublicAt(int source_dir, const std::string& name, const std::string& path,
                             int depth) {
    if (++copied_ > kMaxCopied || depth > kMaxDepth) return;
    struct stat found {};
    if (::fstatat(source_dir, name.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0) return;
    if (S_ISLNK(found.st_mode)) return CopyLink(source_dir, name, path);
    if ((found.st_mode & S_IROTH) == 0) return;
    if (S_ISREG(found.st_mode)) return CopyFile(source_dir, name, path, found);
    if (S_ISDIR(found.st_mode)) CopyDir(source_dir, name, path, depth);
}

void TreeMaker::CopyLink(int source_dir, const std::string& name, const std::string& path) {
    std::array<char, PATH_MAX> target{};
    const ssize_t size = ::readlinkat(source_dir, name.c_str(), target.data(), target.size());
    if (size > 0) (void)Link(path, std::string(target.data(), static_cast<std::size_t>(size)));
}

void TreeMaker::CopyFile(int source_dir, const std::string& name, const std::string& path,
                         const struct stat& found) {
    if (found.st_size > kMaxFile) return;
    const UniqueFd in(
        ::openat(source_dir, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    std::string bytes(static_cast<std::size_t>(found.st_size), '\0');
    if (!in || ::pread(in.get(), bytes.data(), bytes.size(), 0) != found.st_size) return;
    (void)File(path, bytes, found.st_mode & 0755);
}

void TreeMaker::CopyDir(int source_dir, const std::string& name, const std::string& path,
                        int depth) {
    UniqueFd in(
        ::openat(source_dir, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (!in || (path != "." && !Dir(path, 0755))) return;
    const std::unique_ptr<DIR, CloseSource> entries(::fdopendir(in.get()));
    if (!entries) return;
    const int fd = in.release();  // entries closes it
    // NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is this function's own.
    while (const dirent* entry = ::readdir(entries.get())) {
        const std::string child = entry->d_name;
        if (child == "." || child == "..") continue;
        CopyPublicAt(fd, child, path + "/" + child, depth + 1);
    }
}

}  // namespace sbxfs
