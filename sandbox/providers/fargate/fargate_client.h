// AWS as one account's sandboxes in one region use it: the services, one definition cache, one watch a cluster. Made on
// first use, kept for the life of the mount: throttling concerns the account. Loop thread only.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "aws/credential_chain.h"
#include "aws/ec2.h"
#include "aws/ecs.h"
#include "aws/iam.h"
#include "aws/logs.h"
#include "aws/s3.h"
#include "aws/secrets_manager.h"
#include "aws/sts.h"
#include "sandbox/providers/fargate/definition_cache.h"
#include "sandbox/providers/fargate/fargate_settings.h"
#include "sandbox/providers/fargate/task_watch.h"

namespace sbxfs {

class FargateClient {
 public:
    // `shared`: the AWS tools' files, read by whoever may block.
    static Result<std::shared_ptr<FargateClient>> Make(Loop& loop, aws::HttpClient& http,
                                                       const aws::Environment& environment,
                                                       const aws::SharedConfig& shared,
                                                       const FargateAccount& account);

    const std::string& region() const { return region_; }
    aws::Ecs& ecs() { return *ecs_; }
    aws::Ec2& ec2() { return *ec2_; }
    aws::Sts& sts() { return *sts_; }
    aws::Iam& iam() { return *iam_; }
    aws::Logs& logs() { return *logs_; }
    aws::S3& s3() { return *s3_; }
    aws::SecretsManager& secrets() { return *secrets_; }
    DefinitionCache& definitions() { return *definitions_; }
    TaskWatch& watch(const std::string& cluster);
    // Sent requests and throttled ones, by "service:Action".
    std::map<std::string, aws::Service::Counters> Counters() const;

 private:
    explicit FargateClient(Loop& loop) : loop_(loop) {}

    Loop& loop_;
    std::string region_;
    std::map<std::string, std::shared_ptr<aws::Service>> services_;  // by endpoint prefix
    std::unique_ptr<aws::Ecs> ecs_;
    std::unique_ptr<aws::Ec2> ec2_;
    std::unique_ptr<aws::Sts> sts_;
    std::unique_ptr<aws::Iam> iam_;
    std::unique_ptr<aws::Logs> logs_;
    std::unique_ptr<aws::S3> s3_;
    std::unique_ptr<aws::SecretsManager> secrets_;
    std::shared_ptr<DefinitionCache> definitions_;
    std::map<std::string, std::shared_ptr<TaskWatch>> watches_;  // by cluster
};

}  // namespace sbxfs
