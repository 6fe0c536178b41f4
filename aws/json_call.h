// The JSON protocols of ECS, Secrets Manager and CloudWatch Logs: a JSON body, the action in a header. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "aws/service.h"
#include "base/json.h"

namespace sbxfs::aws {

// `target`: the service's name in X-Amz-Target, "AmazonEC2ContainerServiceV20141113".
ApiCall JsonCall(std::string_view target, const std::string& action, const Json& body,
                 Repeat repeat);

// Passes the parsed body on; an answer that is no JSON object is a failure.
using JsonDone = UniqueFunction<void(Outcome<Json>)>;
ApiDone ExpectJson(std::string action, JsonDone done);

// A time as these protocols write it: seconds since the epoch, with a fraction.
std::optional<SystemTime> TimeAt(const Json& json, std::string_view key);

}  // namespace sbxfs::aws
