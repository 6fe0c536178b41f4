// Which credentials are used, found out once from settings, environment and the shared files of the AWS tools, in the
// order in which those tools look. Loop thread only.
#pragma once

#include <functional>
#include <string>

#include "aws/credentials.h"
#include "aws/http.h"
#include "aws/shared_config.h"
#include "base/loop.h"

namespace sbxfs::aws {

// What our own configuration says about it; all may be empty.
struct ChainSettings {
    std::string access_key_id{};
    Secret secret_access_key{};
    Secret session_token{};
    std::string profile{};   // aws_profile; else AWS_PROFILE, else "default"
    std::string role_arn{};  // aws_role_arn: assumed with whatever the rest finds
    std::string external_id{};
    std::string session_name{};  // of assumed roles; default "sbxfs"
    std::string sts_endpoint{};  // for tests and private endpoints
};

struct ChainParts {
    Loop& loop;
    HttpClient& http;
    const Environment& environment;
    const SharedConfig& shared;
    std::string region;
    std::function<double()> random;
};

// The name of the profile in use: `wanted`, AWS_PROFILE, AWS_DEFAULT_PROFILE, "default".
std::string ProfileName(std::string_view wanted, const Environment& environment);

// Order: keys in our configuration; AWS_ACCESS_KEY_ID (unless a profile is named in our configuration);
// AWS_WEB_IDENTITY_TOKEN_FILE; the profile (role_arn with source_profile or credential_source, web identity, keys,
// credential_process); a container's endpoint; the instance's role. EINVAL with file and key for what is incomplete, and
// for profiles that only a browser can log in to, with the remedy. Cached and renewed as needed.
Result<CredentialProviderPtr> MakeCredentialChain(const ChainParts& parts,
                                                  const ChainSettings& settings);

}  // namespace sbxfs::aws
