// The mount's top: README.md, .mount and the sandboxes. mkdir here launches, rmdir destroys.
#pragma once

#include "fs/control_node.h"

namespace sbxfs {

class RootDir final : public ControlDir {
 public:
    explicit RootDir(MountContext& mount) : ControlDir(mount, kRootIno, nullptr, "") {}

    Attr Stat() const override;
    // Whether the mount is alive is asked by looking at this directory (mount_probe.h).
    Lease Loan() const override { return {}; }
    std::vector<Name> List() const override;
    std::optional<Child> FindChild(std::string_view name) const override;
    std::string MissingText(std::string_view name) const override;
    void Sync(Done done) override;
    void MakeDir(std::string_view name, std::uint32_t mode, EntryReply reply) override;
    void RemoveDir(std::string_view name, EmptyReply reply) override;

 private:
    Child SandboxChild(const SandboxPtr& sandbox) const;
};

// The template a name asks for: that behind its '@', else the mount's default. ENOENT, naming those
// there are.
Result<Template> ChooseTemplate(const Config& config, const SandboxName& name);

}  // namespace sbxfs
