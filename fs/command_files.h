// The files that take commands: cmd, cmd.json and run/NAME (contract 4, "submit rule"). What is written to
// a handle becomes one command at the first of: close by the process that opened it, fsync, the first
// read on a read-write handle, or the last close. The number is read back on the same handle.
//
// What the kernel really sends, and why the rule is what it is: a shell redirection sends an empty FLUSH
// before the first WRITE; every child that inherited the descriptor sends a FLUSH of its own; the FLUSH
// of a killed opener comes too, with PF_SIGNALED set; errors of RELEASE are thrown away. Hence refusals at
// OPEN and WRITE, and a reserved place from the first WRITE on.
#pragma once

#include <string>
#include <utility>

#include "fs/control_node.h"

namespace sbxfs {

// cmd: a script for the persistent shell. cmd.json: one JSON object.
class CmdFile final : public ControlNode {
 public:
    enum class Format { kScript, kJson };
    CmdFile(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox,
            Format format)
        : ControlNode(mount, ino, std::move(parent), std::move(name)),
          sandbox_(std::move(sandbox)),
          format_(format) {}
    Attr Stat() const override;
    Lease Loan() const override { return {.attributes = kControlLoan}; }
    void Open(const OpenRequest& request, OpenReply reply) override;

 private:
    const SandboxPtr sandbox_;
    const Format format_;
};

// run/: creating NAME here submits a parallel command of that name, once. Nothing is ever listed.
class RunDir final : public ControlDir {
 public:
    RunDir(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox)
        : ControlDir(mount, ino, std::move(parent), std::move(name)),
          sandbox_(std::move(sandbox)) {}
    Attr Stat() const override;
    Lease Loan() const override { return kNameToo; }
    std::vector<Name> List() const override { return {}; }
    std::optional<Child> FindChild(std::string_view) const override { return std::nullopt; }
    void Create(std::string_view name, std::uint32_t mode, const OpenRequest& request,
                CreateReply reply) override;

 private:
    void CreateOnce(const std::string& name, const OpenRequest& request, CreateReply reply,
                    int attempts);
    const SandboxPtr sandbox_;
};

// A command as cmd.json describes it. EINVAL naming the member that is wrong.
struct JsonCommand {
    CommandSpec spec;
    std::string script;
};
Result<JsonCommand> ParseJsonCommand(std::string_view text);

}  // namespace sbxfs
