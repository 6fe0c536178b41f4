// What runs in the clusters in use, compared with what the books say, at the mount and every few minutes: tasks that were to
// end are stopped again; tasks of ours that no record knows are strangers (a restored or cloned state directory), which are
// only told about. Loop thread only, but for Strangers().
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/sync.h"
#include "sandbox/provider.h"
#include "sandbox/providers/fargate/fargate_books.h"

namespace sbxfs {

class Reconciler : public std::enable_shared_from_this<Reconciler> {
 public:
    explicit Reconciler(FargateBooks& books) : books_(books) {}
    // Now, and again every kPause until this dies.
    void Start();
    // A cluster to look at although no record speaks of it, yet or any more; from the next round on.
    void LookIn(const FargateAccount& account, const std::string& cluster);
    // Any thread.
    std::vector<Stranger> Strangers() const;

    static constexpr auto kPause = std::chrono::minutes(5);

 private:
    using Place = std::pair<FargateAccount, std::string>;  // and the cluster
    struct StrangeTask {
        std::string cluster;
        std::string region;
        Stranger shown;
    };

    void Round();
    bool InUse(const Place& place) const;
    void Compare(const Place& place, const FargateAccess& access);
    void Listed(const Place& place, const FargateAccess& access, std::vector<std::string> arns);
    void Described(const Place& place, const FargateAccess& access, const aws::EcsTasks& tasks);
    void Strange(const Place& place, const std::string& region, const aws::EcsTask& task);

    FargateBooks& books_;
    mutable Mutex mu_{LockRank::kProvider};
    std::map<std::string, StrangeTask> strangers_ GUARDED_BY(mu_);  // by ARN
    std::set<Place> configured_;
    std::set<Place> looked_in_;      // of this round, with the region that was found out
    std::set<std::string> foreign_;  // ARNs of others' tasks: asked about once
    TimerPtr timer_;
};

}  // namespace sbxfs
