#include "sandbox/providers/fargate/definition_cache.h"

#include <utility>

#include "base/log.h"

namespace sbxfs {

void DefinitionCache::Find(const FargateSettings& settings, const std::string& image,
                           ArnDone done) {
    if (settings.task_definition.empty())
        return FindPayload(DefineFromScratch(settings, image), std::move(done));
    // The base is asked for each time: "family" without a revision means the newest, whenever that was made.
    ecs_.DescribeTaskDefinition(
        settings.task_definition, [self = shared_from_this(), settings, image,
                                   done = std::move(done)](aws::Outcome<Json> base) mutable {
            if (!base)
                return done(base.failure().error.While("reading the task definition " +
                                                       settings.task_definition));
            auto payload = DefineFromBase(settings, image, *base);
            if (!payload) return done(std::move(payload).error());
            self->FindPayload(std::move(*payload), std::move(done));
        });
}

void DefinitionCache::FindPayload(DefinitionPayload payload, ArnDone done) {
    if (const auto known = known_.find(payload.hash); known != known_.end())
        return done(known->second);
    auto& waiting = waiting_[payload.hash];
    waiting.push_back(std::move(done));
    if (waiting.size() == 1) Look(payload);
}

// Registered by an earlier life of a daemon, here or elsewhere with the same settings.
void DefinitionCache::Look(const DefinitionPayload& payload) {
    ecs_.DescribeTaskDefinition(
        payload.family, [self = shared_from_this(), payload](aws::Outcome<Json> found) {
            // ECS says ClientException for a family that it does not know; anything worse is met again by registering.
            if (!found || found->GetString("status") != "ACTIVE") return self->Register(payload);
            const auto tags = found->Find("tags");
            bool ours = false;
            for (const Json& tag : tags ? tags->Elements() : std::vector<Json>())
                ours = ours ||
                       (tag.GetString("key") == kHashTag && tag.GetString("value") == payload.hash);
            const auto arn = found->GetString("taskDefinitionArn");
            if (!ours || !arn) return self->Register(payload);
            self->Found(payload.hash, *arn);
        });
}

void DefinitionCache::Register(const DefinitionPayload& payload) {
    ecs_.RegisterTaskDefinition(
        payload.Request(), [self = shared_from_this(), payload](aws::Outcome<Json> made) {
            if (!made) return self->Found(payload.hash, made.failure().error);
            const auto arn = made->GetString("taskDefinitionArn");
            if (!arn)
                return self->Found(
                    payload.hash,
                    Error(Errno{EIO}, "ecs:RegisterTaskDefinition answered without an ARN",
                          Blame::kRemote));
            Log(LogLevel::kInfo, "task definition registered", {{"arn", *arn}});
            self->Found(payload.hash, *arn);
        });
}

void DefinitionCache::Found(const std::string& hash, Result<std::string> arn) {
    if (arn) known_[hash] = *arn;
    const auto entry = waiting_.extract(hash);
    for (ArnDone& done : entry.mapped())
        done(arn);
}

void DefinitionCache::Forget(const std::string& arn) {
    std::erase_if(known_, [&](const auto& entry) { return entry.second == arn; });
}

}  // namespace sbxfs
