// The task definition that sandboxes with the same settings share: nothing of a single sandbox is in it, so that there
// are as few as there are different settings (RegisterTaskDefinition is throttled to about one a second). Pure.
#pragma once

#include <string>

#include "base/json.h"
#include "base/result.h"
#include "sandbox/providers/fargate/fargate_settings.h"

namespace sbxfs {

// What one of them is for; everything else in a request is the sandbox's own.
struct DefinitionPayload {
    Json body = Json::Object();  // RegisterTaskDefinition's, without family and tags
    std::string hash;            // 32 hex digits of SHA-256 over it
    std::string family;          // PREFIX-HASH
    // Body, family and the tag by which it is found after a restart.
    Json Request() const;
};
inline constexpr const char* kHashTag = "sbxfs:hash";

// From nothing. `image`: with its placeholders filled in.
DefinitionPayload DefineFromScratch(const FargateSettings& settings, const std::string& image);
// From `base`, as DescribeTaskDefinition gives it: containers are kept, ours is changed where the settings say so. EINVAL
// when it has no container of that name, naming those it has.
Result<DefinitionPayload> DefineFromBase(const FargateSettings& settings, const std::string& image,
                                         const Json& base);

// {name} and {id} filled in; the name made fit for a tag of an image.
std::string ImageFor(const FargateSettings& settings, const std::string& sandbox_name,
                     const std::string& token);

}  // namespace sbxfs
