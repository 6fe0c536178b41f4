// What a sandbox sees as "/". Two halves:
//
//   MakeLayer   (helper)           the files of its own, on the disk of the state directory:
//   layer/root is its root,
//                                  layer/{usr,etc}/{upper,work} what it changes there
//   MountView   (helper's child)   puts program trees, binds and the init program into that root,
//   in a mount
//                                  namespace of the child's, at kViewRoot. bubblewrap makes it the
//                                  real root and adds /proc and /dev.
//
// Nothing else of the host is in it: what is not mounted here does not exist inside.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "sandbox/providers/local/etc_files.h"
#include "sandbox/providers/local/local_settings.h"
#include "sandbox/providers/local/overlay.h"
#include "sandbox/providers/local/tree_maker.h"

namespace sbxfs {

inline constexpr char kViewRoot[] = "/tmp/root";        // in the child's namespace only
inline constexpr char kInitPath[] = "/run/sbxfs/init";  // inside the sandbox
inline constexpr char kSpoolDir[] = "/var/lib/sbxfs";   // inside the sandbox

// A bind whose source has been found and judged.
struct ReadyBind {
    HostBind bind;
    std::string source;  // without links
    bool directory = false;
    dev_t device = 0;  // to notice that something else came to lie there
    ino_t inode = 0;
    std::optional<UniqueFd>
        ids;  // root: a user namespace that shows the source's owner as the sandbox's root
};

struct LayerPlan {
    EtcPlan etc;
    Owner owner;  // this machine's ids of who logs in
};
Status MakeLayer(int box_dir, const LayerPlan& plan);
// Of a stopped sandbox, for another run. Its files are the sandbox's doing by now: where something is to be mounted
// there must be a directory of its own.
Status RenewLayer(int box_dir, Owner owner);

struct ViewPlan {
    std::string layer;          // path of the layer
    std::string base;           // base_layer.h
    std::optional<int> userns;  // root: id-mapped trees
    Owner owner;
    std::string workdir;
    std::string init_program;
    const std::vector<ReadyBind>* binds = nullptr;
    bool fresh = true;  // nothing of the sandbox has run over it yet
};
// What became of the program trees.
Result<std::vector<ShownTree>> MountView(const ViewPlan& plan);

}  // namespace sbxfs
