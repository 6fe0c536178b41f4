// Task definitions by what is in them: looked up once, registered at most once at a time, found again after a restart by
// their family's name and tag. Loop thread only. One per account and region; shared by all sandboxes there.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "aws/ecs.h"
#include "sandbox/providers/fargate/fargate_settings.h"
#include "sandbox/providers/fargate/task_definition.h"

namespace sbxfs {

class DefinitionCache : public std::enable_shared_from_this<DefinitionCache> {
 public:
    // The definition's ARN with its revision.
    using ArnDone = UniqueFunction<void(Result<std::string>)>;

    explicit DefinitionCache(aws::Ecs ecs) : ecs_(std::move(ecs)) {}

    void Find(const FargateSettings& settings, const std::string& image, ArnDone done);
    // ECS said that this one is not usable (somebody deregistered it): looked up again next time.
    void Forget(const std::string& arn);

 private:
    void FindPayload(DefinitionPayload payload, ArnDone done);
    void Look(const DefinitionPayload& payload);
    void Register(const DefinitionPayload& payload);
    void Found(const std::string& hash, Result<std::string> arn);

    aws::Ecs ecs_;
    std::map<std::string, std::string> known_;  // hash -> ARN
    std::map<std::string, std::vector<ArnDone>>
        waiting_;  // hash -> who waits for the one that asks
};

}  // namespace sbxfs
