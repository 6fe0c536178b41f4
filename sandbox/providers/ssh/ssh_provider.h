// Provider `ssh`: a sandbox is a machine one already has (docs/SSH.md). Launching finds out which host
// keys to pin and makes nothing there; what is made on the machine, its spool, the sandbox makes over
// its link and takes away again (OwnsMachine() is false). That a sandbox was launched is kept as one
// file a token below the state directory, so that a repeated launch pins what the first one did.
//
// Any thread may call and destroy it. Files are read on a thread of its own, since they may lie on a
// slow disk; callbacks run on the loop, which outlives it.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/batch_thread.h"
#include "base/result.h"
#include "sandbox/io_loop.h"
#include "sandbox/provider.h"
#include "sandbox/providers/ssh/ssh_settings.h"

namespace sbxfs {

struct SshOptions {
    std::string state_dir;  // absolute
    SshSelf self;
};

class SshProvider final : public Provider {
 public:
    // Makes <state_dir>/ssh.
    static Result<std::unique_ptr<SshProvider>> Open(Loop& loop, SshOptions options);
    SshProvider(const SshProvider&) = delete;
    SshProvider& operator=(const SshProvider&) = delete;
    ~SshProvider() override;

    Status Check(const Template& what) override;
    // EACCES when the host key is not known, or the identity cannot be used. ECANCELED when it was
    // destroyed.
    void Launch(const LaunchSpec& spec, LaunchPhase phase, LaunchDone done) override;
    void Probe(const std::string& token, const std::string& id, HealthDone done) override;
    void Destroy(const std::string& token, const std::string& id, Done done) override;
    std::vector<std::string> Verbs() const override { return {}; }
    bool Paid() const override { return false; }
    bool OwnsMachine() const override { return false; }
    // The machine is not ours to end.
    ExpiryAction OnExpiry() const override { return ExpiryAction::kEndCommands; }

 private:
    SshProvider(Loop& loop, SshOptions options);
    std::string RecordPath(const std::string& token) const;
    Result<Launched> LaunchNow(const std::string& token, const Template& what);
    Status DestroyNow(const std::string& token);
    void Run(Job job);

    Loop& loop_;
    const SshOptions options_;
    std::set<std::string> destroyed_;  // the thread's: so that a late launch brings nothing back
    std::deque<std::string> destroyed_order_;
    BatchThread<Job> thread_;  // last: joined before all it uses
};

// What a launch with these settings would connect with: the pinned keys are read, the identity file is
// looked at. Blocks on the disk.
Result<ConnectInfo> ResolveSsh(const SshSettings& settings, const std::string& token);

}  // namespace sbxfs
