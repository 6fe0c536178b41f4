// The shared configuration files of the AWS tools, ~/.aws/config and ~/.aws/credentials, as profiles with settings. The
// text is parsed as the tools do it: sections "[default]" and "[profile NAME]" (config) or "[NAME]" (credentials),
// "key = value", comments, and one level of nested settings under a key without value. Pure but for Load(); any thread.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sbxfs::aws {

// What is written about one profile. Nested settings are "outer.inner".
struct Profile {
    std::map<std::string, std::string> settings{};
    std::string Get(const std::string& key) const;  // "" when it is not set
};

struct SharedConfig {
    std::map<std::string, Profile>
        profiles{};  // settings of the credentials file win, as in the tools
    std::map<std::string, Profile> services{};      // [services NAME]
    std::map<std::string, Profile> sso_sessions{};  // [sso-session NAME]
    std::string config_path{};                      // for messages
    std::string credentials_path{};

    const Profile* Find(const std::string& profile) const;
};

// Either text may be empty. Lines that are no setting are skipped, as the tools do.
SharedConfig ParseSharedConfig(std::string_view config, std::string_view credentials);

// From AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE, else below HOME/.aws. A file that is not there is empty; one that
// cannot be read is an error.
using Environment = std::map<std::string, std::string>;
Result<SharedConfig> LoadSharedConfig(const Environment& environment);

// Of this process. Before threads start: setenv(3) elsewhere would race.
Environment CurrentEnvironment();

// The value, "" when it is not set.
std::string Lookup(const Environment& environment, const std::string& name);

}  // namespace sbxfs::aws
