// events/: one directory per accepted command, a link per name, and `latest`. And events/N itself.
#pragma once

#include <utility>

#include "fs/control_node.h"

namespace sbxfs {

class EventsDir final : public ControlDir {
 public:
    EventsDir(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox)
        : ControlDir(mount, ino, std::move(parent), std::move(name)),
          sandbox_(std::move(sandbox)) {}

    Attr Stat() const override;
    Lease Loan() const override { return kNameToo; }
    std::vector<Name> List() const override;
    std::optional<Child> FindChild(std::string_view name) const override;
    std::string MissingText(std::string_view name) const override;
    // rmdir events/N forgets a finished command.
    void RemoveDir(std::string_view name, EmptyReply reply) override;

 private:
    const SandboxPtr sandbox_;
};

class EventDir final : public ControlDir {
 public:
    EventDir(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox,
             EventNumber n)
        : ControlDir(mount, ino, std::move(parent), std::move(name)),
          sandbox_(std::move(sandbox)),
          n_(n) {}

    Attr Stat() const override;
    // `wait`, `wait.SECONDS` and `follow` are reachable, never listed: reading every listed file must not hang.
    std::vector<Name> List() const override;
    std::optional<Child> FindChild(std::string_view name) const override;
    std::string MissingText(std::string_view name) const override;

 private:
    Child StatusOf() const;

    const SandboxPtr sandbox_;
    const EventNumber n_;
};

}  // namespace sbxfs
