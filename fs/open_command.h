// One open handle of a file that takes commands. See command_files.h for the rule it keeps. Several
// processes may hold it at once: the state is behind mu_, answers are given outside.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "fs/command_files.h"

namespace sbxfs {

class OpenCommand final : public OpenHandle, public std::enable_shared_from_this<OpenCommand> {
 public:
    // `slot` is already reserved for run/NAME, whose name is in `spec`.
    OpenCommand(NodePtr node, SandboxPtr sandbox, CmdFile::Format format, const Caller& opener,
                CommandSpec spec, Commands::Slot slot);

    void Write(std::uint64_t offset, std::span<const char> bytes, bool from_cache,
               WrittenReply reply) override;
    void Flush(const Caller& who, EmptyReply reply) override;
    void Fsync(EmptyReply reply) override;
    void Read(std::uint64_t offset, std::size_t size, DataReply reply) override;
    void Release() override;

 private:
    using Submitted = UniqueFunction<void(Status)>;

    Status Take(std::span<const char> bytes);
    Status CheckGrown(std::span<const char> part);
    Status NameCommand(const std::string& name);
    void Poison(const Error& why);
    std::optional<Error> Poisoned() const;
    void Submit(Submitted done);
    void Refuse(pid_t pid, const Error& why) const;

    const SandboxPtr sandbox_;
    const CmdFile::Format format_;
    const CommandSpec spec_;
    const pid_t opener_;  // a process, not a thread; 0: not visible from here
    mutable Mutex mu_{LockRank::kHandle};
    std::string text_ GUARDED_BY(mu_);  // written since the last command
    Commands::Slot slot_ GUARDED_BY(mu_);
    std::optional<Error> poisoned_ GUARDED_BY(mu_);  // what every later request hears
    std::string answer_ GUARDED_BY(mu_);  // "7\n", a line per command submitted by this handle
    std::size_t cursor_ GUARDED_BY(mu_) = 0;
};

}  // namespace sbxfs
