// Files that take verbs, one a line: box/ctl and events/N/ctl. Reading lists the verbs. A verb is carried
// out by the write that brings its line, so that its error is heard even where errors of close are not.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "fs/control_node.h"

namespace sbxfs {

class VerbFile : public ControlNode {
 public:
    using ControlNode::ControlNode;
    Attr Stat() const final;
    void Open(const OpenRequest& request, OpenReply reply) final;

    virtual std::vector<std::string> Verbs() const = 0;
    // Whether a line that begins with one of Verbs() can be carried out, as far as can be told at once. By itself: when
    // there is nothing more in it.
    virtual Status Check(const std::string& line) const;
    // Only for a line that Check() found good.
    virtual void Do(const std::string& line, Done done) = 0;
    virtual SystemTime Time() const = 0;
};

class SandboxCtl final : public VerbFile {
 public:
    SandboxCtl(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox)
        : VerbFile(mount, ino, std::move(parent), std::move(name)), sandbox_(std::move(sandbox)) {}
    std::vector<std::string> Verbs() const override;
    Status Check(const std::string& line) const override;
    void Do(const std::string& line, Done done) override;
    SystemTime Time() const override { return FromEpochMs(sandbox_->created_ms()); }

 private:
    const SandboxPtr sandbox_;
};

// Of a sandbox being destroyed on a machine that stays: `forget` stops trying to clear it.
class PastCtl final : public VerbFile {
 public:
    PastCtl(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox)
        : VerbFile(mount, ino, std::move(parent), std::move(name)), sandbox_(std::move(sandbox)) {}
    std::vector<std::string> Verbs() const override { return {"forget"}; }
    void Do(const std::string& verb, Done done) override;
    SystemTime Time() const override { return FromEpochMs(sandbox_->created_ms()); }

 private:
    const SandboxPtr sandbox_;
};

// Signals to a running command's process tree; any of them cancels one that waits for its turn.
class EventCtl final : public VerbFile {
 public:
    EventCtl(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox,
             EventNumber n)
        : VerbFile(mount, ino, std::move(parent), std::move(name)),
          sandbox_(std::move(sandbox)),
          n_(n) {}
    std::vector<std::string> Verbs() const override {
        return {"int", "term", "kill", "hup", "usr1", "usr2"};
    }
    void Do(const std::string& verb, Done done) override;
    SystemTime Time() const override;

 private:
    const SandboxPtr sandbox_;
    const EventNumber n_;
};

}  // namespace sbxfs
