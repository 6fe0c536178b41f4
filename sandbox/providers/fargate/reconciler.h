// What runs in the clusters in use, compared with what the books say, at the mount and every few minutes: tasks that were to
// end are stopped again; tasks of ours that no record knows are strangers (a restored or cloned state directory), which are
// only told about. Loop thread only.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "sandbox/providers/fargate/fargate_books.h"

namespace sbxfs {

struct StrangeTask {
    std::string arn;
    std::string cluster;
    std::string region;
    std::string name;  // of its sandbox
    std::string token;
    std::string since;  // RFC 3339
    // What removes it.
    std::string Command() const;
};

class Reconciler : public std::enable_shared_from_this<Reconciler> {
 public:
    explicit Reconciler(FargateBooks& books) : books_(books) {}
    // Now, and again every kPause until this dies.
    void Start();
    const std::map<std::string, StrangeTask>& strangers() const { return strangers_; }

    static constexpr auto kPause = std::chrono::minutes(5);

 private:
    using Place = std::pair<FargateAccount, std::string>;  // and the cluster

    void Round();
    void Compare(const Place& place, const FargateAccess& access);
    void Listed(const Place& place, const FargateAccess& access, std::vector<std::string> arns);
    void Described(const Place& place, const FargateAccess& access, const aws::EcsTasks& tasks);

    FargateBooks& books_;
    std::map<std::string, StrangeTask> strangers_;  // by ARN
    std::set<std::string> foreign_;                 // ARNs of others' tasks: asked about once
    TimerPtr timer_;
};

}  // namespace sbxfs
