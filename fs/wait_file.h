// Files whose read waits: box/ready, events/N/wait and events/N/wait.SECONDS. Looked up, never listed.
// The reply is parked; a signal frees the reader.
#pragma once

#include <optional>
#include <utility>

#include "fs/control_node.h"

namespace sbxfs {

// How long wait.SECONDS waits; nothing: until the end.
using WaitLimit = std::optional<Duration>;

// A node that gives its text once something has happened.
class WaitNode : public ControlNode {
 public:
    using ControlNode::ControlNode;
    Attr Stat() const final;
    Lease Loan() const final { return {.attributes = kControlLoan}; }
    void Open(const OpenRequest& request, OpenReply reply) final;

    // The text of now.
    virtual std::string Text() const = 0;
    // Runs `job` once it has happened; 0, or what Cancel takes.
    virtual std::uint64_t When(Job job) = 0;
    virtual void Cancel(std::uint64_t id) = 0;
    virtual WaitLimit Limit() const = 0;
};

class ReadyFile final : public WaitNode {
 public:
    ReadyFile(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox)
        : WaitNode(mount, ino, std::move(parent), std::move(name)), sandbox_(std::move(sandbox)) {}
    std::string Text() const override;
    std::uint64_t When(Job job) override { return sandbox_->WhenSettled(std::move(job)); }
    void Cancel(std::uint64_t id) override { sandbox_->CancelWait(id); }
    WaitLimit Limit() const override { return std::nullopt; }

 private:
    const SandboxPtr sandbox_;
};

class EventWaitFile final : public WaitNode {
 public:
    EventWaitFile(MountContext& mount, Ino ino, NodePtr parent, std::string name,
                  SandboxPtr sandbox, EventNumber n, WaitLimit limit)
        : WaitNode(mount, ino, std::move(parent), std::move(name)),
          sandbox_(std::move(sandbox)),
          n_(n),
          limit_(limit) {}
    std::string Text() const override;
    std::uint64_t When(Job job) override {
        return sandbox_->commands().WhenFinished(n_, std::move(job));
    }
    void Cancel(std::uint64_t id) override { sandbox_->commands().CancelWait(n_, id); }
    WaitLimit Limit() const override { return limit_; }

 private:
    const SandboxPtr sandbox_;
    const EventNumber n_;
    const WaitLimit limit_;
};

}  // namespace sbxfs
