// IAM, as far as `sbxfs doctor` asks it: what somebody may do. Codec only. Loop thread only.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "aws/service.h"

namespace sbxfs::aws {

class Iam {
 public:
    // Action to whether it is allowed, and if not, the service's word ("implicitDeny", "explicitDeny").
    struct Decision {
        bool allowed = false;
        std::string said;
    };
    using DecisionsDone = UniqueFunction<void(Outcome<std::map<std::string, Decision>>)>;

    explicit Iam(std::shared_ptr<Service> service) : service_(std::move(service)) {}

    // `principal`: the ARN of a user or role. All actions in one call, on any resource.
    void SimulatePrincipalPolicy(const std::string& principal,
                                 const std::vector<std::string>& actions, DecisionsDone done);

 private:
    std::shared_ptr<Service> service_;
};

// "arn:aws:sts::1:assumed-role/NAME/SESSION" as the role behind it, whose path is not known; others unchanged.
std::string PolicyPrincipal(const std::string& caller_arn);

}  // namespace sbxfs::aws
