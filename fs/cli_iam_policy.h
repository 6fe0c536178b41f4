// `sbxfs iam-policy`: what the user or role that mounts must be allowed in AWS, as a policy document.
#pragma once

#include <string>

namespace sbxfs {

// For all templates with backend `fargate` of this configuration. 0, or 1 after saying why there is none.
int IamPolicyCommand(const std::string& config);

}  // namespace sbxfs
