#include "fs/cli_iam_policy.h"

#include <cstdio>
#include <vector>

#include "aws/shared_config.h"
#include "fs/config.h"
#include "sandbox/providers/fargate/fargate_doctor.h"

namespace sbxfs {

int IamPolicyCommand(const std::string& config) {
    const Result<Config> loaded = LoadConfig(config);
    if (!loaded) {
        (void)std::fprintf(stderr, "sbxfs: %s\n", loaded.error().what().c_str());
        return 1;
    }
    std::vector<Template> templates;
    for (const auto& [name, what] : loaded->templates)
        templates.push_back(what);
    const Result<Json> policy = FargatePolicy(templates, aws::CurrentEnvironment());
    if (!policy) {
        (void)std::fprintf(stderr, "sbxfs: %s\n", policy.error().what().c_str());
        return 1;
    }
    (void)std::printf("%s\n", policy->Dump(2).c_str());
    return 0;
}

}  // namespace sbxfs
