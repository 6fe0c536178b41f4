// Whether sandboxes could be launched on Fargate with these settings: who we are, what we may do, whether what is named is
// there and lets us in. Asks AWS and changes nothing there.
#pragma once

#include <vector>

#include "aws/shared_config.h"
#include "base/json.h"
#include "sandbox/doctor.h"
#include "sandbox/template.h"

namespace sbxfs {

// Blocks for as long as AWS takes.
void ExamineFargate(const Template& what, const aws::Environment& environment, const Tell& tell);

// The policy for all templates of backend `fargate` among these (`sbxfs iam-policy`). EINVAL when there is none or one is
// wrong. Asks nobody: the account stays "*".
Result<Json> FargatePolicy(const std::vector<Template>& templates,
                           const aws::Environment& environment);

}  // namespace sbxfs
