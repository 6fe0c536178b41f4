// A sandbox's top directory, and what is left of a sandbox in .mount/history.
#pragma once

#include <utility>

#include "fs/control_node.h"

namespace sbxfs {

class SandboxDir final : public ControlDir {
 public:
    SandboxDir(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox)
        : ControlDir(mount, ino, std::move(parent), std::move(name)),
          sandbox_(std::move(sandbox)) {}

    Attr Stat() const override;
    Lease Loan() const override { return kNameToo; }
    // `fs` and the files that wait are reachable, never listed (contract 2).
    std::vector<Name> List() const override;
    std::optional<Child> FindChild(std::string_view name) const override;
    void Sync(Done done) override { sandbox_->DrainChanges(std::move(done)); }

 private:
    const SandboxPtr sandbox_;
};

class PastSandboxDir final : public ControlDir {
 public:
    PastSandboxDir(MountContext& mount, Ino ino, NodePtr parent, std::string name,
                   SandboxPtr sandbox)
        : ControlDir(mount, ino, std::move(parent), std::move(name)),
          sandbox_(std::move(sandbox)) {}

    Attr Stat() const override;
    std::vector<Name> List() const override;
    std::optional<Child> FindChild(std::string_view name) const override;

 private:
    const SandboxPtr sandbox_;
};

}  // namespace sbxfs
