// The permissions that a template's launches need: what `sbxfs iam-policy` prints and `sbxfs doctor` checks. Pure.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "sandbox/providers/fargate/fargate_settings.h"

namespace sbxfs {

struct NeededAction {
    std::string action;       // "ecs:RunTask"
    std::string resource;     // the narrowest that IAM takes for it
    std::string why;          // for people
    std::string only_tagged;  // a condition: only tasks with this tag of sbxfs; empty: none
};

// `partition`, `account`: of the ARNs; "*" where they are not known.
std::vector<NeededAction> ActionsNeeded(const FargateSettings& settings,
                                        const std::string& partition, const std::string& account);

// A policy document for all of `settings`, one statement a kind of resource.
Json PolicyFor(const std::vector<FargateSettings>& settings, const std::string& partition,
               const std::string& account);

}  // namespace sbxfs
