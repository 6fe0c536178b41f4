// One sandbox's RunTask: all that is its own, as overrides and tags. The same launch always makes the same request, also
// after a restart of the daemon, because ECS refuses a token that comes back with other parameters. Pure.
#pragma once

#include <string>

#include "aws/ecs.h"
#include "base/secret.h"
#include "sandbox/provider.h"
#include "sandbox/providers/fargate/fargate_settings.h"

namespace sbxfs {

// Whose tasks these are: what the reconciler looks for.
struct FargateOwner {
    std::string mount_id;  // of the journal
    std::string who;       // "user@host", for people who find the task in the console
};

// Tag names on every task.
inline constexpr const char* kMountTag = "sbxfs:mount";
inline constexpr const char* kTokenTag = "sbxfs:token";
inline constexpr const char* kNameTag = "sbxfs:name";
inline constexpr const char* kGenerationTag = "sbxfs:generation";
inline constexpr const char* kOwnerTag = "sbxfs:owner";
inline constexpr const char* kExpiryTag = "sbxfs:expires";

// What a launch is called in AWS: clientToken, startedBy and tag of its task. A copy of a state directory counts the same
// generations again under the same mount; the sandbox's own client key tells its launches from those of the original.
std::string ClientTokenFor(const LaunchSpec& spec);

// What only this sandbox can say of itself: derived from the mount's secret, so that it needs no journal.
std::string ProofFor(const Secret& mount_secret, const std::string& client_token);

struct LaunchParts {
    const FargateSettings& settings;
    const LaunchSpec& spec;
    std::string client_token;
    FargateOwner owner;
    std::string task_definition;  // with its revision
    Secret proof;
    std::string host_key_file_arn;  // mode s3
};

// E2BIG when the overrides are longer than ECS takes, saying what to shorten.
Result<aws::RunTaskRequest> MakeRunTaskRequest(const LaunchParts& parts);

// A tag's value: what does not fit becomes '_', what is too long is cut.
std::string TagValue(std::string_view text);

}  // namespace sbxfs
