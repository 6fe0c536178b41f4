// Provider `fargate`: a sandbox is an AWS ECS Fargate task (docs/fargate.md). What may cost money is written down before it
// is asked for (FargateBooks), asked for with a token that makes a repeat harmless (FargateLaunch), ended until ECS confirms
// (FargateStop), and looked for in the cluster now and then (Reconciler): a task whose daemon died ends itself by the timer
// that its entrypoint arms.
//
// Any thread may call; everything happens on the loop, which outlives it.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "aws/curl_http.h"
#include "base/sync.h"
#include "sandbox/provider.h"
#include "sandbox/providers/fargate/fargate_books.h"
#include "sandbox/providers/fargate/fargate_launch.h"
#include "sandbox/providers/fargate/fargate_stop.h"
#include "sandbox/providers/fargate/reconciler.h"

namespace sbxfs {

struct FargateOptions {
    std::string state_dir;  // absolute; its own directory is made below it
    FargateOwner owner;
    aws::Environment environment;  // of this process, taken before threads start
    // Of the configuration: strangers are looked for where these would launch, although nothing was launched yet.
    std::vector<Template> templates{};
};

class FargateProvider final : public Provider {
 public:
    // Blocks on the disk.
    static Result<std::unique_ptr<FargateProvider>> Open(Loop& loop, FargateOptions options);
    // For tests: with their own way to AWS.
    static Result<std::unique_ptr<FargateProvider>> Open(Loop& loop, FargateOptions options,
                                                         std::unique_ptr<aws::HttpClient> http);
    FargateProvider(const FargateProvider&) = delete;
    FargateProvider& operator=(const FargateProvider&) = delete;
    // After the loop has stopped, or from it.
    ~FargateProvider() override;

    Status Check(const Template& what) override;
    void Launch(const LaunchSpec& spec, LaunchPhase phase, LaunchDone done) override;
    void Probe(const std::string& token, const std::string& id, HealthDone done) override;
    void Destroy(const std::string& token, const std::string& id, Done done) override;
    std::vector<std::string> Verbs() const override { return {}; }
    bool Paid() const override { return true; }
    std::vector<Stranger> Strangers() const override;

 private:
    class Core;
    FargateProvider(Loop& loop, std::unique_ptr<aws::HttpClient> http, std::shared_ptr<Core> core);

    Loop& loop_;
    const std::unique_ptr<aws::HttpClient> http_;
    const std::shared_ptr<Core> core_;
};

}  // namespace sbxfs
