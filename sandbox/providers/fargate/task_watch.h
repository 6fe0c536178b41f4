// What is becoming of tasks, asked for all of them together: one DescribeTasks for every hundred, often while one of them is
// starting, seldom while one is stopping, never while nobody waits. Loop thread only. One per account and cluster.
//
// Right after RunTask a task may be unknown to DescribeTasks (eventual consistency): MISSING counts only when it lasts.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "aws/ec2.h"
#include "aws/ecs.h"
#include "base/loop.h"

namespace sbxfs {

class TaskWatch : public std::enable_shared_from_this<TaskWatch> {
 public:
    enum class Pace { kStarting, kStopping };
    // Called with every new look at the task; true ends the watch. `missing`: ECS has not known it for a minute.
    struct Look {
        const aws::EcsTask* task = nullptr;  // null when missing
        std::string public_address;          // once known, where it was asked for
    };
    using OnLook = std::function<bool(const Look&)>;

    TaskWatch(Loop& loop, aws::Ecs ecs, aws::Ec2 ec2, std::string cluster)
        : loop_(loop), ecs_(std::move(ecs)), ec2_(std::move(ec2)), cluster_(std::move(cluster)) {}

    enum class PublicAddress { kNotWanted, kWanted };
    // A number to end it with, never 0. One task may be watched by several.
    std::uint64_t Watch(const std::string& arn, Pace pace, PublicAddress address, OnLook on_look);
    void Unwatch(std::uint64_t id) { watched_.erase(id); }

    static constexpr auto kStartingPause = std::chrono::milliseconds(500);
    // One call for each hundred tasks: an account may read 20 times a second, and others read, too.
    static constexpr auto kPausePerCall = std::chrono::milliseconds(200);
    // The first looks at what stops come sooner.
    static constexpr auto kStoppingPause = std::chrono::seconds(5);
    static constexpr auto kMissingFor = std::chrono::seconds(60);

 private:
    struct Watched {
        std::string arn;
        Pace pace = Pace::kStarting;
        bool wants_address = false;
        OnLook on_look;
        SteadyTime known{};  // when ECS knew it last, or the watch began
        SteadyTime begun{};
    };
    struct Interface {
        std::string id;
        std::string public_address;
    };

    void Plan();
    void Round();
    void Described(const std::vector<std::string>& asked, aws::EcsTasks tasks);
    void AskAddresses();
    void RoundOver();
    void Tell();

    Loop& loop_;
    aws::Ecs ecs_;
    aws::Ec2 ec2_;
    const std::string cluster_;
    std::map<std::uint64_t, Watched> watched_;
    std::uint64_t next_ = 1;
    std::map<std::string, aws::EcsTask> looks_;  // this round's, by ARN
    std::map<std::string, Interface>
        interfaces_;  // of tasks whose public address is wanted, by ARN
    TimerPtr timer_;
    SteadyTime due_{};
    SteadyTime last_round_{};
    std::size_t asking_ = 0;  // calls of this round under way
};

}  // namespace sbxfs
