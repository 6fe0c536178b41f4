// box/ttl: seconds until the sandbox ends itself, `none` when it does not. A number N written is N seconds from now,
// +N is N more. The write is answered when the sandbox's own timer has it (contract 8).
#pragma once

#include <string>
#include <utility>

#include "fs/value_file.h"

namespace sbxfs {

class TtlFile final : public ValueFile {
 public:
    TtlFile(MountContext& mount, Ino ino, NodePtr parent, std::string name, SandboxPtr sandbox)
        : ValueFile(mount, ino, std::move(parent), std::move(name)), sandbox_(std::move(sandbox)) {}
    std::string Text() const override;
    // Not of every second that passes: tar would find it changed under its hands.
    SystemTime Time() const override { return FromEpochMs(sandbox_->TimesSetMs()); }
    Keeps WhenKept() const override { return Keeps::kAtWrite; }
    std::size_t Limit() const override { return 64; }
    std::optional<Error> Closed() const override { return sandbox_->commands().Closed(); }
    Status Check(std::string_view text, Part part) const override;
    void Commit(std::string text, Done done) override;

 private:
    const SandboxPtr sandbox_;
};

}  // namespace sbxfs
