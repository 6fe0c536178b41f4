// .mount: the mount itself. Configuration, templates, the newest refusals, the log, the history of
// sandboxes that are being destroyed or gone.
#pragma once

#include "fs/control_node.h"

namespace sbxfs {

class MountDir final : public ControlDir {
 public:
    using ControlDir::ControlDir;
    Attr Stat() const override;
    Lease Loan() const override { return kNameToo; }
    std::vector<Name> List() const override;
    std::optional<Child> FindChild(std::string_view name) const override;
};

// .mount/bin: programs for those who have nothing but the mount.
class BinDir final : public ControlDir {
 public:
    using ControlDir::ControlDir;
    Attr Stat() const override;
    std::vector<Name> List() const override;
    std::optional<Child> FindChild(std::string_view name) const override;
};

// .mount/history: one NAME.GENERATION per sandbox that is being destroyed or gone.
class HistoryDir final : public ControlDir {
 public:
    using ControlDir::ControlDir;
    Attr Stat() const override;
    std::vector<Name> List() const override;
    std::optional<Child> FindChild(std::string_view name) const override;
};

}  // namespace sbxfs
