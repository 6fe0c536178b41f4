#include "sandbox/providers/local/base_layer.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <set>
#include <string_view>

#include "base/files.h"
#include "base/strings.h"
#include "sandbox/providers/local/etc_files.h"
#include "sandbox/providers/local/remover.h"
#include "sandbox/providers/local/snapshots.h"
#include "sandbox/providers/local/tree_maker.h"

namespace sbxfs {
namespace {

constexpr std::string_view kPrefix = "local-base-";
constexpr std::string_view kHalfMade = "local-base.new";
constexpr int kLayout = 1;          // raise it when a base is made differently
constexpr int kMaxSkeleton = 2000;  // directories

std::uint64_t Mix(const std::string& path, std::uint64_t seed) {
    struct stat found {};
    if (::lstat(path.c_str(), &found) != 0) return Fnv1a("-", seed);
    const std::string facts = std::to_string(found.st_ino) + " " + std::to_string(found.st_size) +
                              " " + std::to_string(found.st_mtim.tv_sec) + "." +
                              std::to_string(found.st_mtim.tv_nsec);
    return Fnv1a(facts, seed);
}

// Programs change /etc by renaming a new file into place, which moves the directory's time: looking
// at what is copied and, of directories, at what lies directly in them is enough.
std::string Stamp() {
    std::uint64_t stamp = Fnv1a(std::to_string(kLayout));
    for (const std::string_view name : CopiedFromEtc()) {
        const std::string path = "/etc/" + std::string(name);
        stamp = Mix(path, Fnv1a(name, stamp));
    }
    stamp = Mix("/usr", Mix("/usr/local", stamp));
    std::string bytes;
    for (int shift = 56; shift >= 0; shift -= 8)
        bytes += static_cast<char>(stamp >> shift);
    return Hex(bytes);
}

// The directories of `path` on this machine, made in `tree` under the same names, `depth` levels
// deep.
void CopySkeleton(TreeMaker& tree, const std::string& path, const std::string& into, int depth,
                  int& left) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
        std::error_code ignored;
        if (entry.is_symlink(ignored) || !entry.is_directory(ignored)) continue;
        if (left-- <= 0) return;
        const std::string name = entry.path().filename().string();
        const std::string child = into.empty() ? name : into + "/" + name;
        if (!tree.Dir(child, 0755)) continue;
        if (depth > 1) CopySkeleton(tree, entry.path().string(), child, depth - 1, left);
    }
}

Result<UniqueFd> MakeDirIn(int parent, const std::string& name) {
    if (::mkdirat(parent, name.c_str(), 0755) != 0) return SystemError(errno, "mkdir " + name);
    UniqueFd dir(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (!dir) return SystemError(errno, "open " + name);
    return dir;
}

Status MakeBase(int state, const std::string& name) {
    const std::string half_made(kHalfMade);
    (void)TRY(RemoveTree(state, half_made));
    const UniqueFd base = TRY(MakeDirIn(state, half_made));
    const Owner owner{::geteuid(), ::getegid()};
    {
        const UniqueFd etc = TRY(MakeDirIn(base.get(), "etc"));
        TreeMaker tree(etc.get(), owner);
        (void)TRY(FillCommonEtc(tree));
    }
    {
        const UniqueFd usr = TRY(MakeDirIn(base.get(), "usr"));
        TreeMaker tree(usr.get(), owner);
        int left = kMaxSkeleton;
        CopySkeleton(tree, "/usr", "", 1, left);
        CopySkeleton(tree, "/usr/local", "local", 4, left);
    }
    if (::renameat(state, half_made.c_str(), state, name.c_str()) != 0) {
        return SystemError(errno, "rename to " + name);
    }
    return Ok();
}

// Bases that no box was launched over, and no snapshot taken. A base in use must stay as it is: an overlay's lower layer
// may not change.
void RemoveUnused(const std::string& state_dir, int state, const std::string& wanted) {
    std::set<std::string> used = {wanted};
    std::error_code error;
    for (const auto& box : std::filesystem::directory_iterator(Box::BoxesDir(state_dir), error)) {
        const auto name = ReadWholeFile(box.path().string() + "/base", 256);
        if (name) used.insert(std::string(Trim(*name)));
    }
    for (const std::string& base : BasesOfSnapshots(state_dir))
        used.insert(base);
    for (const auto& entry : std::filesystem::directory_iterator(state_dir, error)) {
        const std::string name = entry.path().filename().string();
        if (name.starts_with(kPrefix) && !used.contains(name)) (void)RemoveTree(state, name);
    }
}

}  // namespace

Result<std::string> TakeBaseLayer(const std::string& state_dir, Box& box) {
    const UniqueFd state = TRY(OpenFile(state_dir, O_RDONLY | O_DIRECTORY));
    const UniqueFd lock = TRY(OpenFile(state_dir + "/local-base.lock", O_RDWR | O_CREAT, 0600));
    while (::flock(lock.get(), LOCK_EX) != 0) {
        if (errno != EINTR) return SystemError(errno, "flock local-base.lock");
    }
    const std::string name = std::string(kPrefix) + Stamp();
    // Remembered before the lock is let go: from here on nobody removes it.
    (void)TRY(box.Write("base", name + "\n"));
    struct stat found {};
    if (::fstatat(state.get(), name.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0) {
        (void)TRY(MakeBase(state.get(), name));
        RemoveUnused(state_dir, state.get(), name);
    }
    return state_dir + "/" + name;
}

Result<std::string> SameBaseLayer(const std::string& state_dir, Box& box) {
    const std::string path = state_dir + "/" + std::string(Trim(box.Read("base").value_or("")));
    struct stat found {};
    const bool there = path.ends_with('/') ? false : ::lstat(path.c_str(), &found) == 0;
    if (there && S_ISDIR(found.st_mode)) return path;
    return TakeBaseLayer(state_dir, box);
}

}  // namespace sbxfs
