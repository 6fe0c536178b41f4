// A short text that changes and can be waited for with poll(2): a sandbox's status, an event's status. An
// open one shows what is new whenever it is read from its beginning, as files of sysfs do.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "fs/control_node.h"

namespace sbxfs {

// What the file shows and who tells of changes.
struct StatusSource {
    TextFunction text;
    TimeFunction mtime;
    std::function<bool()>
        is_final;  // it will never change again: poll(2) says POLLHUP, as of an ended pipe
    std::shared_ptr<void> keeper;  // of `signal`
    ChangeSignal* signal = nullptr;
    std::uint64_t key = 0;
};

class StatusFile final : public ControlNode {
 public:
    StatusFile(MountContext& mount, Ino ino, NodePtr parent, std::string name,
               std::shared_ptr<const StatusSource> source)
        : ControlNode(mount, ino, std::move(parent), std::move(name)), source_(std::move(source)) {}
    Attr Stat() const override;
    void Open(const OpenRequest& request, OpenReply reply) override;

 private:
    const std::shared_ptr<const StatusSource> source_;
};

Child StatusChild(MountContext& mount, std::string name, StatusSource source);

}  // namespace sbxfs
