// The configuration file (contract 8): read, expanded, checked. Unknown keys and values of the wrong kind
// are errors that name the file, the line and the nearest known key. Read by main before threads start.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sandbox/template.h"

namespace sbxfs {

// [providers.NAME]
struct ProviderConfig {
    std::string backend;
    Options options;
};

struct Config {
    std::string file;  // empty: there is none, and these are the built-in settings
    std::string default_template = "default";
    std::map<std::string, ProviderConfig> providers;
    std::map<std::string, Template> templates;
    std::int64_t max_sandboxes = 1000;  // of a mount at a time
    std::int64_t cache_mib = 256;       // bytes of files in memory, for all sandboxes together
    std::string secret;                 // says where one stands in the file; empty: nowhere

    // As .mount/config.toml shows it: everything in effect, secrets as <set>.
    std::string Text() const;
};

// What works without a file: template `default` of provider `local`.
Config BuiltInConfig();

// `text` is the content of `file`. `variable` looks up ${VAR}; nothing for one that is not set.
using Variables = std::optional<std::string> (*)(const std::string& name);
Result<Config> ParseConfig(std::string_view text, const std::string& file, Variables variable);

// Reads `path`, or where it is empty $XDG_CONFIG_HOME/sbxfs/config.toml, then
// /etc/sbxfs/config.toml, then the built-in settings. EACCES when others may write the file, or read one
// that holds a secret.
Result<Config> LoadConfig(const std::string& path);

// A template on its own, as .mount/templates/NAME.toml takes it: its keys, with [templates.NAME] above them or without.
// Nothing is expanded. Values of env that read <set> are those of the template of that name that there is.
Result<Template> ParseTemplate(const Config& config, const std::string& name,
                               std::string_view text);

// `base` with other values of the keys in `text`, which is TOML; with `provider` among them a template of its own.
Result<Template> OverrideTemplate(const Config& config, Template base, std::string_view text);

// One template as TOML.
std::string TemplateText(const Template& what);

}  // namespace sbxfs
