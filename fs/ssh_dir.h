// box/ssh: what ssh(1) needs to go in, `ssh -F box/ssh/config box`: config and known_hosts, and key, which
// is reachable but not listed. Always from memory.
#pragma once

#include <string>
#include <utility>

#include "fs/control_node.h"

namespace sbxfs {

class SshDir final : public ControlDir {
 public:
    SshDir(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox)
        : ControlDir(mount, ino, std::move(parent), std::move(name)),
          sandbox_(std::move(sandbox)) {}
    Attr Stat() const override;
    std::vector<Name> List() const override;
    std::optional<Child> FindChild(std::string_view name) const override;

 private:
    const SandboxPtr sandbox_;
};

// The name the sandbox has in that configuration: its own without "@TEMPLATE", which ssh(1) would read
// as user@host.
std::string SshAlias(std::string_view name);

// Pure. `directory` is box/ssh, `program` sbxfs itself.
std::string SshConfigText(const SandboxRecord& record, const std::string& directory,
                          const std::string& program);
std::string KnownHostsText(const SandboxRecord& record);

}  // namespace sbxfs
