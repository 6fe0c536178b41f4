// What config/ holds of one sandbox: how its commands start, as the user changed it after the launch (contract 2
// and 4). In the journal with the sandbox. Values; no thread rules.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/secret.h"
#include "sandbox/template.h"

namespace sbxfs {

struct SandboxConfig {
    std::string cwd;  // these three: empty means what the template or the sandbox has
    std::string shell;
    std::string user;
    std::optional<std::int64_t> timeout_s;  // 0: none
    std::map<std::string, Secret> env;
    std::int64_t changed_ms = 0;  // 0: never

    // For the journal alone: the values of `env` are in it.
    std::string ToText() const;
    static SandboxConfig FromText(std::string_view text);
};

enum class ConfigKey { kCwd, kShell, kTimeout, kUser };

// Whether `text` can be a value, or, with kBeginning, whether something that begins so can. EINVAL with the rule.
// One final newline does not count; empty goes back to the default.
enum class ConfigPart { kBeginning, kWhole };
Status CheckConfigValue(ConfigKey key, std::string_view text, ConfigPart part);
// `text` passed the check.
void SetConfigValue(SandboxConfig& config, ConfigKey key, std::string_view text);

// A name and a value for config/env.
Status CheckVariableName(std::string_view name);
Status CheckVariableValue(std::string_view value);
inline constexpr std::size_t kMaxVariableBytes = 65536;
inline constexpr std::size_t kMaxVariables = 1024;

// What every command of a sandbox starts with, unless it says otherwise itself.
struct CommandDefaults {
    std::string cwd;
    std::string shell;
    std::string user;
    bool login_shell = false;
    std::int64_t timeout_ms = 0;  // 0: none
    std::map<std::string, std::string> env;
    std::map<std::string, Secret> secrets;  // of config/env, which have the last word over `env`
};
// The settings for unattended use, then the template's, then config/ (contract 4).
CommandDefaults DefaultsFor(const Template& what, const SandboxConfig& config);

}  // namespace sbxfs
