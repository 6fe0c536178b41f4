// .mount/new: launches a sandbox with options of its own (contract 3). A line, or a whole JSON object, launches at its
// write, so that refusals are heard also where errors of close are not; what has no newline does so at the close.
// The name is read back on the same handle.
#pragma once

#include "fs/control_node.h"

namespace sbxfs {

class NewFile final : public ControlNode {
 public:
    using ControlNode::ControlNode;
    Attr Stat() const override;
    void Open(const OpenRequest& request, OpenReply reply) override;
};

}  // namespace sbxfs
