#include "sandbox/providers/fargate/task_watch.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace sbxfs {
namespace {

constexpr std::size_t kMostInterfaces = 200;  // values of one filter

}  // namespace

std::uint64_t TaskWatch::Watch(const std::string& arn, Pace pace, PublicAddress address,
                               OnLook on_look) {
    const bool wants_address = address == PublicAddress::kWanted;
    const SteadyTime now = loop_.clock().Steady();
    watched_[next_] = {arn, pace, wants_address, std::move(on_look), now, now};
    Plan();
    return next_++;
}

void TaskWatch::Plan() {
    if (watched_.empty() || asking_ > 0) return;
    const SteadyTime now = loop_.clock().Steady();
    Duration pause = kStoppingPause;
    for (const auto& [id, watched] : watched_) {
        // What has just been asked to stop may be quick; what takes long is looked at less often.
        const Duration own = watched.pace == Pace::kStarting
                                 ? Duration(kStartingPause)
                                 : std::max<Duration>(kStartingPause, (now - watched.begun) / 2);
        pause = std::min(pause, own);
    }
    pause = std::max<Duration>(pause, kPausePerCall * (1 + watched_.size() / aws::Ecs::kMostTasks));
    const SteadyTime next = last_round_ == SteadyTime{} ? now : std::max(now, last_round_ + pause);
    if (timer_ != nullptr && due_ <= next) return;
    due_ = next;
    timer_ = loop_.After(next - now, [this] {
        const TimerPtr ran = std::move(timer_);  // dies with the job
        Round();
    });
}

void TaskWatch::Round() {
    if (watched_.empty()) return;
    last_round_ = loop_.clock().Steady();
    looks_.clear();
    std::set<std::string> arns;
    for (const auto& [id, watched] : watched_)
        arns.insert(watched.arn);
    std::vector<std::vector<std::string>> batches;
    for (const std::string& arn : arns) {
        if (batches.empty() || batches.back().size() == aws::Ecs::kMostTasks)
            batches.emplace_back();
        batches.back().push_back(arn);
    }
    asking_ = batches.size();
    for (const std::vector<std::string>& batch : batches) {
        ecs_.DescribeTasks(cluster_, batch, aws::Ecs::WithTags::kNo,
                           [weak = weak_from_this(), batch](aws::Outcome<aws::EcsTasks> tasks) {
                               const auto self = weak.lock();
                               if (!self) return;
                               --self->asking_;
                               if (tasks) {
                                   self->Described(batch, *std::move(tasks));
                               } else {
                                   Log(LogLevel::kWarning, "tasks not described",
                                       {{"why", tasks.failure().error}});
                               }
                               if (self->asking_ == 0) self->AskAddresses();
                           });
    }
}

void TaskWatch::Described(const std::vector<std::string>& asked, aws::EcsTasks tasks) {
    const SteadyTime now = loop_.clock().Steady();
    for (aws::EcsTask& task : tasks.tasks) {
        for (auto& [id, watched] : watched_) {
            if (watched.arn != task.arn) continue;
            watched.known = now;
            if (watched.wants_address && !task.interface_id.empty())
                interfaces_[task.arn].id = task.interface_id;
        }
        looks_[task.arn] = std::move(task);
    }
    // Unknown to ECS, and for long enough to believe it.
    for (const std::string& arn : asked) {
        if (looks_.contains(arn)) continue;
        const bool gone = std::any_of(watched_.begin(), watched_.end(), [&](const auto& entry) {
            return entry.second.arn == arn && now - entry.second.known >= kMissingFor;
        });
        if (gone) looks_[arn] = aws::EcsTask{};
    }
}

// One call for all that have an interface and no public address yet.
void TaskWatch::AskAddresses() {
    std::map<std::string, std::string> arn_of;  // by interface
    for (const auto& [arn, interface] : interfaces_)
        if (interface.public_address.empty() && arn_of.size() < kMostInterfaces)
            arn_of[interface.id] = arn;
    if (arn_of.empty()) return RoundOver();
    std::vector<std::string> ids;
    for (const auto& [id, arn] : arn_of)
        ids.push_back(id);
    asking_ = 1;
    ec2_.DescribeNetworkInterfaces(ids, [weak = weak_from_this(),
                                         arn_of](aws::Outcome<std::vector<aws::NetworkInterface>>
                                                     found) {
        const auto self = weak.lock();
        if (!self) return;
        --self->asking_;
        if (!found)
            Log(LogLevel::kWarning, "interfaces not described", {{"why", found.failure().error}});
        for (const aws::NetworkInterface& one :
             found ? *found : std::vector<aws::NetworkInterface>()) {
            const auto arn = arn_of.find(one.id);
            if (arn != arn_of.end())
                self->interfaces_[arn->second].public_address = one.public_address;
        }
        self->RoundOver();
    });
}

void TaskWatch::RoundOver() {
    Tell();
    std::set<std::string> wanted;
    for (const auto& [id, watched] : watched_)
        if (watched.wants_address) wanted.insert(watched.arn);
    std::erase_if(interfaces_, [&](const auto& entry) { return !wanted.contains(entry.first); });
    Plan();
}

void TaskWatch::Tell() {
    std::vector<std::uint64_t> ids;  // listeners may begin and end watches
    for (const auto& [id, watched] : watched_)
        ids.push_back(id);
    for (const std::uint64_t id : ids) {
        const auto watched = watched_.find(id);
        if (watched == watched_.end()) continue;
        const auto seen = looks_.find(watched->second.arn);
        if (seen == looks_.end()) continue;
        const auto interface = interfaces_.find(watched->second.arn);
        Look look;
        if (!seen->second.arn.empty()) look.task = &seen->second;
        if (interface != interfaces_.end()) look.public_address = interface->second.public_address;
        const OnLook on_look = watched->second.on_look;
        if (on_look(look)) Unwatch(id);
    }
}

}  // namespace sbxfs
