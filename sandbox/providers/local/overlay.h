// The host's program trees (/usr, and /bin /sbin /lib* where they are no links into it) as a
// sandbox shows them: each under an overlay whose upper layer is the sandbox's own, so that it may
// write anywhere and nobody else sees it. Nothing is copied; an unused /usr costs one mount.
//
// As root the lower tree is an id-mapped clone, which makes this machine's root the sandbox's.
// Where that cannot be (and always as an ordinary user) files of /usr belong to nobody inside; then
// a skeleton of empty directories of the sandbox's owner (base_layer.h) lies between, which
// overlayfs merges: in those, files can be added, replaced and removed. Where no overlay can be
// mounted at all the tree is shown read-only, and `why` says so.
//
// Runs in the helper's child, in its own mount namespace.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "sandbox/providers/local/tree_maker.h"

namespace sbxfs {

// The top-level directories that hold programs, as this machine has them.
struct ProgramTrees {
    std::vector<std::string> directories;                    // "usr", without the slash
    std::vector<std::pair<std::string, std::string>> links;  // "bin" -> "usr/bin"
};
ProgramTrees FindProgramTrees(const std::string& root);

// What became of one tree.
struct ShownTree {
    std::string name;
    bool writable = false;
    bool ids_mapped = false;
    std::string why;  // why not writable, or why not mapped; empty when all is well
};

// Detached mounts of one tree, taken before the staging area hides anything.
struct LowerTree {
    std::string name;
    UniqueFd tree;
    bool ids_mapped = false;
    std::string why;
    std::vector<std::pair<std::string, UniqueFd>> submounts;  // path below the tree, read-only
};
Result<LowerTree> CloneLower(const std::string& name, std::optional<int> userns);

// Makes layer/NAME/{upper,work} on the disk of the state directory.
Status MakeUpper(int layer, const std::string& name, Owner owner);

// For another mount over the same upper layer: an empty work directory, since a volatile overlay's is not used twice.
Status RenewWork(int layer, const std::string& name);

struct OverlayPaths {
    std::string lower;     // where the clone is attached for the moment
    std::string skeleton;  // between lower and upper where ids are not mapped; empty: none
    std::string layer;     // layer/NAME, reachable in this namespace
    int root = -1;         // the sandbox's root; the tree goes to its NAME
};
// Mounts the overlay, or the tree read-only where that fails.
Result<ShownTree> ShowTree(LowerTree lower, const OverlayPaths& paths, bool user_xattr);

// A detached overlay. `lowers` is uppermost first.
Result<UniqueFd> MountOverlay(const std::vector<std::string>& lowers, const std::string& layer,
                              bool user_xattr);

}  // namespace sbxfs
