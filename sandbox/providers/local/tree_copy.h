// Copies a tree that a hostile sandbox may have arranged, with everything overlayfs needs to take it for the same layer:
// owners, modes, times, extended attributes, hard links, holes, whiteouts, pipes and sockets. Nothing is followed and no
// mount is crossed. Nothing may run over the tree, or be about to change its names. Shares blocks where the file system
// can. Helper only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace sbxfs {

// Whose ids the files have, and whose the copy shall have: ranges of kIdsPerSandbox from these on.
struct IdShift {
    std::uint32_t from = 0;
    std::uint32_t to = 0;
};

struct CopyPlan {
    std::optional<IdShift> ids;  // none: owners stay, as far as the caller may give files away
    std::vector<std::string>
        emptied;  // directories, by their path below the tree, that are copied without what is in them
};

struct CopyCount {
    std::uint64_t bytes = 0;  // on the disk
    std::uint64_t files = 0;
};

// Copies the directory `name` of `from` to a new one of this name in `to`, and counts. ENOSPC while there is still room
// for a journal.
Status CopyTree(int from, const std::string& name, int to, const CopyPlan& plan, CopyCount& count);

}  // namespace sbxfs
