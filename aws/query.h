// The query protocol of EC2 and STS: a form as body, XML as answer. Pure; any thread.
#pragma once

#include <string>

#include "aws/service.h"
#include "aws/url.h"

namespace sbxfs::aws {

// `parameters` without Action and Version.
ApiCall QueryCall(const std::string& action, const std::string& version, QueryParameters parameters,
                  Repeat repeat);

// For an answer that is not what the service documents: EIO, naming the action.
ApiFailure Malformed(const std::string& action, const std::string& what);

}  // namespace sbxfs::aws
