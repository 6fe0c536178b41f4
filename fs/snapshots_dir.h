// .mount/snapshots: NAME.json for each kept copy of a sandbox's files, with where it comes from and how large it is. `rm`
// removes the copy. Made by `snapshot NAME` in a sandbox's ctl; `mkdir BOX@NAME` launches from it, since each stands for
// a template of its name, which only the configuration in
// effect knows.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "fs/control_node.h"
#include "sandbox/snapshotter.h"

namespace sbxfs {

class SnapshotsDir final : public ControlDir {
 public:
    using ControlDir::ControlDir;
    Attr Stat() const override;
    std::vector<Name> List() const override;
    std::optional<Child> FindChild(std::string_view name) const override;
    void Unlink(std::string_view name, EmptyReply reply) override;
};

// Whether this is the template that a snapshot stands for.
bool IsOfSnapshot(const Template& what);

// Has the configuration in effect know the snapshots that there are now. Any thread.
void LearnSnapshots(MountContext& mount);

}  // namespace sbxfs
