#include "sandbox/sandbox_config.h"

#include <errno.h>
#include <limits.h>

#include <algorithm>

#include "base/json.h"
#include "base/strings.h"
#include "sandbox/scoped_script.h"

namespace sbxfs {
namespace {

std::string_view WithoutNewline(std::string_view text) {
    if (text.ends_with('\n')) text.remove_suffix(1);
    return text;
}

Error Bad(std::string_view key, std::string_view rule) {
    return {Errno{EINVAL},
            "config/" + std::string(key) + " " + std::string(rule) + "; what was set before stays"};
}

// The journal is JSON, which is UTF-8.
bool IsUtf8(std::string_view text) {
    const auto back = Json::Parse(Json::String(text).Dump());
    return back && back->AsString() == text;
}

Status CheckPath(std::string_view key, std::string_view path, std::string_view example) {
    const std::string like(example);
    if (!path.empty() && path.front() != '/')
        return Bad(key, "must be an absolute path, like " + like);
    if (path.size() >= PATH_MAX) return Bad(key, "is longer than a path can be");
    if (path.find('\n') != std::string_view::npos || path.find('\0') != std::string_view::npos)
        return Bad(key, "is one path on one line, like " + like);
    return Ok();
}

// A login name, or a number.
Status CheckUser(std::string_view user) {
    const auto plain = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_' || c == '.' || c == '-' || c == '$' || c == '@';
    };
    const bool good =
        user.size() <= 64 && std::all_of(user.begin(), user.end(), plain) && !user.starts_with('-');
    return good ? Ok() : Status(Bad("user", "must be the name or the number of a user there"));
}

Status CheckTimeout(std::string_view text, ConfigPart part) {
    constexpr std::string_view kRule =
        "must be a duration like 90, 90s, 30m, 4h or 2d; 0 means none";
    const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
    const std::string_view unit = text.substr(digits);
    if (part == ConfigPart::kBeginning && (digits == text.size() || unit.size() <= 1) &&
        digits < 12) {
        return unit.find_first_not_of("smhd") == std::string_view::npos &&
                       (digits > 0 || unit.empty())
                   ? Ok()
                   : Status(Bad("timeout", kRule));
    }
    if (text.empty() || ParseSeconds(text)) return Ok();
    return Bad("timeout", kRule);
}

}  // namespace

std::string SandboxConfig::ToText() const {
    if (changed_ms == 0) return "";
    Json json = Json::Object();
    json.Set("changed_ms", changed_ms);
    if (!cwd.empty()) json.Set("cwd", cwd);
    if (!shell.empty()) json.Set("shell", shell);
    if (!user.empty()) json.Set("user", user);
    if (timeout_s) json.Set("timeout_s", *timeout_s);
    Json variables = Json::Object();
    for (const auto& [name, value] : env)
        variables.Set(name, value.Reveal());
    json.Set("env", variables);
    return json.Dump();
}

SandboxConfig SandboxConfig::FromText(std::string_view text) {
    SandboxConfig config;
    const Json json = Json::Parse(text).value_or(Json::Object());
    config.changed_ms = json.GetNumber("changed_ms").value_or(0);
    config.cwd = json.GetString("cwd").value_or("");
    config.shell = json.GetString("shell").value_or("");
    config.user = json.GetString("user").value_or("");
    config.timeout_s = json.GetNumber("timeout_s");
    if (const auto variables = json.Find("env")) {
        for (const auto& [name, value] : variables->Members())
            config.env[name] = Secret(value.AsString().value_or(""));
    }
    return config;
}

Status CheckConfigValue(ConfigKey key, std::string_view text, ConfigPart part) {
    if (text.ends_with('\n')) part = ConfigPart::kWhole;
    text = WithoutNewline(text);
    if (part == ConfigPart::kWhole && !IsUtf8(text))
        return Error(Errno{EINVAL}, "values in config/ are UTF-8; what was set before stays");
    switch (key) {
        case ConfigKey::kCwd:
            return CheckPath("cwd", text, "/workspace");
        case ConfigKey::kShell:
            return CheckPath("shell", text, "/bin/bash");
        case ConfigKey::kTimeout:
            return CheckTimeout(text, part);
        case ConfigKey::kUser:
            return CheckUser(text);
    }
    return Ok();
}

void SetConfigValue(SandboxConfig& config, ConfigKey key, std::string_view text) {
    text = WithoutNewline(text);
    switch (key) {
        case ConfigKey::kCwd:
            config.cwd = text;
            break;
        case ConfigKey::kShell:
            config.shell = text;
            break;
        case ConfigKey::kTimeout:
            config.timeout_s = ParseSeconds(text);
            break;
        case ConfigKey::kUser:
            config.user = text;
            break;
    }
}

Status CheckVariableName(std::string_view name) {
    if (!IsShellName(name) || name.size() > 255) {
        return Error(Errno{EINVAL}, "'" + Printable(name, 64) +
                                        "' cannot name a variable: use letters, digits and _, a "
                                        "digit not first");
    }
    if (name.starts_with("SBXFS_"))
        return Error(Errno{EINVAL}, "names that begin with SBXFS_ are sbxfs's own");
    return Ok();
}

Status CheckVariableValue(std::string_view value) {
    if (value.size() > kMaxVariableBytes) {
        return Error(Errno{EFBIG}, "a variable may have " + std::to_string(kMaxVariableBytes) +
                                       " bytes: put more into a file below fs/");
    }
    if (value.find('\0') != std::string_view::npos || !IsUtf8(value)) {
        return Error(Errno{EINVAL},
                     "the value of a variable is UTF-8 text without NUL bytes; what was set before "
                     "stays");
    }
    if (value == "<set>") {
        return Error(Errno{EINVAL},
                     "'<set>' is what reading shows in place of a value; write the value itself. "
                     "What was set before stays");
    }
    return Ok();
}

CommandDefaults DefaultsFor(const Template& what, const SandboxConfig& config) {
    CommandDefaults defaults;
    defaults.cwd = config.cwd.empty() ? what.workdir : config.cwd;
    defaults.shell = config.shell.empty() ? what.shell : config.shell;
    defaults.user = config.user;
    defaults.login_shell = what.login_shell;
    defaults.timeout_ms = config.timeout_s.value_or(0) * 1000;
    // Nobody sits in front of a command: tools that would ask, page or paint are told so.
    defaults.env = {
        {"CI", "1"},          {"NO_COLOR", "1"}, {"PAGER", "cat"},
        {"GIT_PAGER", "cat"}, {"TERM", "dumb"},  {"DEBIAN_FRONTEND", "noninteractive"},
    };
    for (const auto& [name, value] : what.env)
        defaults.env[name] = value;
    defaults.secrets = config.env;
    return defaults;
}

}  // namespace sbxfs
