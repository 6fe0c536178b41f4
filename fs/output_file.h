// events/N/stdout, stderr and cmd: content on this machine's disk, read through the outputs or store
// thread. The size is true at every moment; a reader gets what is there and stops.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "fs/control_node.h"

namespace sbxfs {

// A file that grows at its end: readers get what is there and stop; poll(2) waits for more.
struct GrowingSource {
    std::function<std::uint64_t()> size;  // of what can be read now
    std::function<bool()> is_final;       // no more is expected: poll(2) says POLLHUP at the end
    std::function<void(FileRange, BytesDone)> read;
    std::shared_ptr<void> keeper;  // of `signal`
    ChangeSignal* signal = nullptr;
    std::uint64_t key = 0;
};
OpenHandlePtr MakeGrowingFile(const NodePtr& node, std::shared_ptr<const GrowingSource> source);

class OutputFile final : public ControlNode {
 public:
    OutputFile(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox,
               EventNumber n, OutputStream stream)
        : ControlNode(mount, ino, std::move(parent), std::move(name)),
          sandbox_(std::move(sandbox)),
          n_(n),
          stream_(stream) {}
    Attr Stat() const override;
    void Open(const OpenRequest& request, OpenReply reply) override;

 private:
    const SandboxPtr sandbox_;
    const EventNumber n_;
    const OutputStream stream_;
};

// The script as it was accepted.
class ScriptFile final : public ControlNode {
 public:
    ScriptFile(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox,
               EventNumber n)
        : ControlNode(mount, ino, std::move(parent), std::move(name)),
          sandbox_(std::move(sandbox)),
          n_(n) {}
    Attr Stat() const override;
    void Open(const OpenRequest& request, OpenReply reply) override;

 private:
    const SandboxPtr sandbox_;
    const EventNumber n_;
};

}  // namespace sbxfs
