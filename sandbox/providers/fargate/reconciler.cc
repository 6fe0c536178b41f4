#include "sandbox/providers/fargate/reconciler.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/strings.h"

namespace sbxfs {

namespace {

std::string StopCommand(const std::string& region, const std::string& cluster,
                        const std::string& arn) {
    return "aws ecs stop-task --region " + ShellQuote(region) + " --cluster " +
           ShellQuote(cluster) + " --task " + ShellQuote(arn);
}

// Of a cluster that was only named in the configuration nobody may be able, or meant, to see anything.
LogLevel LevelOf(bool used) {
    return used ? LogLevel::kWarning : LogLevel::kInfo;
}

}  // namespace

void Reconciler::LookIn(const FargateAccount& account, const std::string& cluster) {
    configured_.emplace(account, cluster);
}

std::vector<Stranger> Reconciler::Strangers() const {
    const MutexLock lock(mu_);
    std::vector<Stranger> all;
    for (const auto& [arn, task] : strangers_)
        all.push_back(task.shown);
    return all;
}

bool Reconciler::InUse(const Place& place) const {
    return std::any_of(books_.all().begin(), books_.all().end(), [&](const auto& entry) {
        FargateAccount account = entry.second.account;
        if (place.first.region.empty()) account.region.clear();
        return account == place.first && entry.second.cluster == place.second;
    });
}

void Reconciler::Start() {
    Round();
}

void Reconciler::Round() {
    looked_in_.clear();
    std::set<Place> places = configured_;
    for (const auto& [token, record] : books_.all())
        places.emplace(record.account, record.cluster);
    for (const Place& place : places)
        books_.Access(place.first, [weak = weak_from_this(), place](Result<FargateAccess> access) {
            const auto self = weak.lock();
            if (!self) return;
            if (access) return self->Compare(place, *access);
            Log(LevelOf(self->InUse(place)), "cluster not looked at",
                {{"cluster", place.second}, {"why", access.error()}});
        });
    timer_ = books_.loop().After(kPause, [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->Round();
    });
}

void Reconciler::Compare(const Place& place, const FargateAccess& access) {
    // "as the AWS tools find it" and what they found is the same region.
    FargateAccount account = place.first;
    account.region = access.client->region();
    if (!looked_in_.emplace(account, place.second).second) return;
    access.client->ecs().ListTasks(
        {place.second},
        [weak = weak_from_this(), place, access](aws::Outcome<std::vector<std::string>> arns) {
            const auto self = weak.lock();
            if (!self) return;
            if (arns) return self->Listed(place, access, *std::move(arns));
            Log(LevelOf(self->InUse(place)), "tasks not listed",
                {{"cluster", place.second}, {"why", arns.failure().error}});
        });
}

void Reconciler::Listed(const Place& place, const FargateAccess& access,
                        std::vector<std::string> arns) {
    const std::set<std::string> running(arns.begin(), arns.end());
    {
        const MutexLock lock(mu_);
        std::erase_if(strangers_, [&](const auto& entry) {
            return entry.second.cluster == place.second &&
                   entry.second.region == access.client->region() && !running.contains(entry.first);
        });
    }
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
        const auto record = std::find_if(
            books_.all().begin(), books_.all().end(),
            [&](const auto& entry) { return entry.second.client_token == tag(kTokenTag); });
        if (record == books_.all().end()) {
            Strange(place, access.client->region(), task);
            continue;
        }
        // One that is being launched finds its task by itself; one that was to end, and did not, is told again.
        if (record->second.stage != TaskStage::kDestroyed) continue;
        Log(LogLevel::kWarning, "a destroyed sandbox's task still runs: stopped again",
            {{"arn", task.arn}});
        access.client->ecs().StopTask(place.second, task.arn, "sbxfs: reconciled",
                                      [](const aws::Outcome<aws::EcsTasks>&) {});
    }
}

void Reconciler::Strange(const Place& place, const std::string& region, const aws::EcsTask& task) {
    const auto name = task.tags.find(kNameTag);
    const auto created = task.times.find("createdAt");
    Stranger shown;
    shown.id = task.arn;
    shown.name = name == task.tags.end() ? "" : name->second;
    shown.since = created == task.times.end() ? "" : Rfc3339(created->second);
    shown.remove_command = StopCommand(region, place.second, task.arn);
    {
        const MutexLock lock(mu_);
        if (!strangers_.emplace(task.arn, StrangeTask{place.second, region, shown}).second) return;
    }
    Log(LogLevel::kWarning, "a task of this mount that its journal does not know",
        {{"arn", task.arn}, {"name", shown.name}, {"remove", shown.remove_command}});
}

}  // namespace sbxfs
