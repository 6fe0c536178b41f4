#include "fs/remote_paths.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "base/strings.h"
#include "sandbox/clean_path.h"
#include "sandbox/spool_place.h"

namespace sbxfs {
namespace {

// Collapses "", "." and ".." by name; ".." at the top stays there.
std::vector<std::string> Normalise(std::vector<std::string> base, std::string_view path) {
    for (std::string& name : Split(path, '/')) {
        if (name.empty() || name == ".") continue;
        if (name != "..") {
            base.push_back(std::move(name));
        } else if (!base.empty()) {
            base.pop_back();
        }
    }
    return base;
}

// How many ".." stand before the first name; nothing when one stands behind a name, and the target could climb out of
// what that name leads to. "." and empty parts lead nowhere.
std::optional<std::size_t> Climb(std::string_view target) {
    std::size_t climb = 0;
    bool named = false;
    for (const std::string& part : Split(target, '/')) {
        if (part.empty() || part == ".") continue;
        if (part != "..") {
            named = true;
        } else if (named) {
            return std::nullopt;
        } else {
            ++climb;
        }
    }
    return climb;
}

}  // namespace

std::string PathBelowRoot(const Template& what) {
    const std::string& root = what.fs_root;
    if (what.workdir == root || !IsWithin(what.workdir, root)) return "";
    return root == "/" ? what.workdir : what.workdir.substr(root.size());
}

bool IsComponent(std::string_view name) {
    return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
           name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

std::string JoinPath(const std::string& directory, std::string_view name) {
    std::string path = directory;
    if (path.empty() || path.back() != '/') path += '/';
    path += name;
    return path;
}

bool IsHidden(const Template& what, const std::string& spool_dir, std::string_view path) {
    // With the spools of other sandboxes on the same machine.
    const std::string parent = SpoolParentOf(spool_dir);
    const std::string& ours = parent.empty() ? spool_dir : parent;
    if (!ours.empty() && IsWithin(path, ours)) return true;
    for (const std::string_view special : {"/proc", "/sys", "/dev"}) {
        if (IsWithin(path, special) && !IsWithin(what.fs_root, special)) return true;
    }
    return false;
}

std::string ContainLink(std::string_view target, const std::string& link_dir,
                        const std::string& root) {
    // The kernel is told a C string: "..\0" would be a name here and a step up there.
    target = target.substr(0, target.find('\0'));
    const std::vector<std::string> here = Normalise({}, link_dir);
    const bool absolute = target.starts_with('/');
    if (!absolute && !target.empty()) {
        // Also "./x": git takes a link that is not as it was made for a changed one.
        const std::optional<std::size_t> climb = Climb(target);
        if (climb && *climb <= here.size()) return std::string(target);
    }
    std::vector<std::string> goal;
    if (absolute) {
        goal = Normalise({}, target);
        const std::vector<std::string> top = Normalise({}, root);
        const bool below =
            goal.size() >= top.size() && std::equal(top.begin(), top.end(), goal.begin());
        // Beside fs_root there is nothing to show: the same names below it, like a chroot.
        if (below) goal.erase(goal.begin(), goal.begin() + static_cast<std::ptrdiff_t>(top.size()));
    } else {
        goal = Normalise(here, target);
    }
    // All the way up and down again: shared directories are not shortened, because one of them may be a
    // link when the kernel walks this, and then ".." would not lead where its name says.
    std::vector<std::string> parts(here.size(), "..");
    parts.insert(parts.end(), goal.begin(), goal.end());
    return parts.empty() ? "." : Join(parts, "/");
}

}  // namespace sbxfs
