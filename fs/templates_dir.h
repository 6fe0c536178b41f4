// .mount/templates: one NAME.toml per template. They can be written, made and removed here; what is written is checked
// when it is closed, and counts for sandboxes made from then on, over the configuration file and across remounts.
#pragma once

#include "fs/control_node.h"

namespace sbxfs {

class TemplatesDir final : public ControlDir {
 public:
    using ControlDir::ControlDir;
    Attr Stat() const override;
    std::vector<Name> List() const override;
    std::optional<Child> FindChild(std::string_view name) const override;
    void Create(std::string_view name, std::uint32_t mode, const OpenRequest& request,
                CreateReply reply) override;
    void Unlink(std::string_view name, EmptyReply reply) override;
};

}  // namespace sbxfs
