#include "sandbox/providers/fargate/reconciler.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/strings.h"

namespace sbxfs {

std::string StrangeTask::Command() const {
    return "aws ecs stop-task --region " + ShellQuote(region) + " --cluster " +
           ShellQuote(cluster) + " --task " + ShellQuote(arn);
}

void Reconciler::Start() {
    Round();
}

void Reconciler::Round() {
    std::set<Place> places;
    for (const auto& [token, record] : books_.all())
        places.emplace(record.account, record.cluster);
    for (const Place& place : places)
        books_.Access(place.first, [weak = weak_from_this(), place](Result<FargateAccess> access) {
            const auto self = weak.lock();
            if (!self) return;
            if (access) return self->Compare(place, *access);
            Log(LogLevel::kWarning, "cluster not looked at",
                {{"cluster", place.second}, {"why", access.error()}});
        });
    timer_ = books_.loop().After(kPause, [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->Round();
    });
}

void Reconciler::Compare(const Place& place, const FargateAccess& access) {
    access.client->ecs().ListTasks(
        {place.second},
        [weak = weak_from_this(), place, access](aws::Outcome<std::vector<std::string>> arns) {
            const auto self = weak.lock();
            if (!self) return;
            if (arns) return self->Listed(place, access, *std::move(arns));
            Log(LogLevel::kWarning, "tasks not listed",
                {{"cluster", place.second}, {"why", arns.failure().error}});
        });
}

void Reconciler::Listed(const Place& place, const FargateAccess& access,
                        std::vector<std::string> arns) {
    const std::set<std::string> running(arns.begin(), arns.end());
    std::erase_if(strangers_, [&](const auto& entry) {
        return entry.second.cluster == place.second &&
               entry.second.region == access.client->region() && !running.contains(entry.first);
    });
    std::erase_if(foreign_, [&](const std::string& arn) { return !running.contains(arn); });
    std::set<std::string> known;
    for (const auto& [token, record] : books_.all())
        if (record.stage == TaskStage::kStarted) known.insert(record.arn);
    std::erase_if(arns, [&](const std::string& arn) {
        return known.contains(arn) || foreign_.contains(arn);
    });
    for (std::size_t at = 0; at < arns.size(); at += aws::Ecs::kMostTasks) {
        const std::size_t end = std::min(at + aws::Ecs::kMostTasks, arns.size());
        const std::vector<std::string> batch(arns.begin() + static_cast<std::ptrdiff_t>(at),
                                             arns.begin() + static_cast<std::ptrdiff_t>(end));
        access.client->ecs().DescribeTasks(
            place.second, batch, aws::Ecs::WithTags::kYes,
            [weak = weak_from_this(), place, access](aws::Outcome<aws::EcsTasks> tasks) {
                const auto self = weak.lock();
                if (self && tasks) self->Described(place, access, *tasks);
            });
    }
}

void Reconciler::Described(const Place& place, const FargateAccess& access,
                           const aws::EcsTasks& tasks) {
    for (const aws::EcsTask& task : tasks.tasks) {
        const auto tag = [&](const char* name) {
            const auto found = task.tags.find(name);
            return found == task.tags.end() ? std::string() : found->second;
        };
        if (tag(kMountTag) != books_.owner().mount_id) {
            foreign_.insert(task.arn);
            continue;
        }
        if (task.desired_status == "STOPPED") continue;
        const FargateRecord* record = books_.Find(tag(kTokenTag));
        if (record == nullptr) {
            const auto created = task.times.find("createdAt");
            StrangeTask stranger{task.arn,
                                 place.second,
                                 access.client->region(),
                                 tag(kNameTag),
                                 tag(kTokenTag),
                                 created == task.times.end() ? "" : Rfc3339(created->second)};
            if (strangers_.emplace(task.arn, stranger).second)
                Log(LogLevel::kWarning, "a task of this mount that its journal does not know",
                    {{"arn", task.arn}, {"name", stranger.name}, {"remove", stranger.Command()}});
            continue;
        }
        // One that is being launched finds its task by itself; one that was to end, and did not, is told again.
        if (record->stage != TaskStage::kDestroyed) continue;
        Log(LogLevel::kWarning, "a destroyed sandbox's task still runs: stopped again",
            {{"arn", task.arn}});
        access.client->ecs().StopTask(place.second, task.arn, "sbxfs: reconciled",
                                      [](const aws::Outcome<aws::EcsTasks>&) {});
    }
}

}  // namespace sbxfs
