// events/N/follow: both streams from the beginning, as they grow, until the command has ended. Each reader
// has its own place; where nothing new is there, the read waits. Reachable, never listed.
#pragma once

#include <string>
#include <utility>

#include "fs/control_node.h"

namespace sbxfs {

class FollowFile final : public ControlNode {
 public:
    FollowFile(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox,
               EventNumber n)
        : ControlNode(mount, ino, std::move(parent), std::move(name)),
          sandbox_(std::move(sandbox)),
          n_(n) {}
    Attr Stat() const override;
    void Open(const OpenRequest& request, OpenReply reply) override;

    const SandboxPtr& sandbox() const { return sandbox_; }
    EventNumber n() const { return n_; }

 private:
    const SandboxPtr sandbox_;
    const EventNumber n_;
};

}  // namespace sbxfs
