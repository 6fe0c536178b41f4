// config/ of a sandbox: how its commands start (contract 2 and 4). cwd, shell, timeout and user are always there and
// show what is in effect; empty goes back to the default. env/KEY is a variable: made by creating it, unset by
// unlink, never shown.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "fs/value_file.h"

namespace sbxfs {

class ConfigDir final : public ControlDir {
 public:
    ConfigDir(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox)
        : ControlDir(mount, ino, std::move(parent), std::move(name)),
          sandbox_(std::move(sandbox)) {}
    Attr Stat() const override;
    Lease Loan() const override { return kNameToo; }
    std::vector<Name> List() const override;
    std::optional<Child> FindChild(std::string_view name) const override;

 private:
    const SandboxPtr sandbox_;
};

class EnvDir final : public ControlDir {
 public:
    EnvDir(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox)
        : ControlDir(mount, ino, std::move(parent), std::move(name)),
          sandbox_(std::move(sandbox)) {}
    Attr Stat() const override;
    std::vector<Name> List() const override;
    std::optional<Child> FindChild(std::string_view name) const override;
    void Create(std::string_view name, std::uint32_t mode, const OpenRequest& request,
                CreateReply reply) override;
    void Unlink(std::string_view name, EmptyReply reply) override;

 private:
    const SandboxPtr sandbox_;
};

}  // namespace sbxfs
