// Provider fargate on tests/aws_emulator: a process of its own on a free port, whose tasks are states only, and a look at
// what it still has. For the contract suite, which asks the provider and not the sandboxes.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "sandbox/io_loop.h"
#include "sandbox/provider.h"
#include "sandbox/providers/fargate/fargate_provider.h"
#include "sandbox/ssh_keys.h"

namespace sbxfs::testing {

// The emulator. Ends with this.
class FargateCloud {
 public:
    static std::string WhySkipped();
    FargateCloud();
    FargateCloud(const FargateCloud&) = delete;
    FargateCloud& operator=(const FargateCloud&) = delete;
    ~FargateCloud();

    const std::string& url() const { return url_; }
    // A program that speaks to it needs these.
    static aws::Environment Environment();
    // GET, or POST of a body, of /_control/PATH.
    Json Control(const std::string& path, const std::string& body = "") const;
    // "ecs:RunTask": how often it was called.
    std::map<std::string, std::int64_t> Calls() const;
    // ARNs of the tasks that this launch started and that have not stopped.
    std::vector<std::string> Living(const std::string& token) const;

 private:
    std::string directory_;
    std::string url_;
    pid_t process_ = -1;
};

class FargateWorld {
 public:
    static std::string WhySkipped() { return FargateCloud::WhySkipped(); }

    FargateWorld();
    FargateWorld(const FargateWorld&) = delete;
    FargateWorld& operator=(const FargateWorld&) = delete;
    ~FargateWorld();

    IoLoop& loop() { return *loop_; }
    Provider& provider() { return *provider_; }
    FargateCloud& cloud() { return cloud_; }
    Template SomeTemplate() const;
    LaunchSpec Spec(const std::string& token) const { return Spec(token, SomeTemplate()); }
    LaunchSpec Spec(const std::string& token, const Template& what) const;
    std::string LeftOf(const std::string& token) const;
    // As after a restart of the daemon.
    void Restart();

    const std::string& state_dir() const { return state_dir_; }

 private:
    void Open();

    FargateCloud cloud_;
    std::string state_dir_;
    SshKeyPair client_key_;
    SshKeyPair host_key_;
    std::unique_ptr<IoLoop> loop_;
    std::unique_ptr<FargateProvider> provider_;
};

}  // namespace sbxfs::testing
