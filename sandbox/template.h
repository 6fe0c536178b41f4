// What to launch: a template of the configuration after defaults, checks and overrides (contract 3
// and 8). A plain value; a sandbox keeps the copy it was created with, whatever happens to the
// configuration later.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace sbxfs {

// A provider's own key (contract 8 lets each backend declare some).
using OptionValue = std::variant<std::string, std::int64_t, bool, std::vector<std::string>>;
using Options = std::map<std::string, OptionValue>;

struct Template {
    std::string name;                // [templates.NAME]
    std::string provider = "local";  // [providers.NAME]; a backend's name stands for itself
    std::string backend = "local";   // local | ssh | fargate | ec2 | docker | vps
    std::string workdir = "/workspace";
    std::string fs_root = "/";
    std::string image;
    std::int64_t cpu = 0;     // CPU units, 1024 = one core; 0: the backend's default
    std::int64_t memory = 0;  // MiB; 0: the backend's default
    std::int64_t max_lifetime_s = 4L * 3600;  // counted from the launch; 0: none
    std::int64_t idle_timeout_s = 0;          // 0: none
    bool exclusive = true;                    // nobody but us and its own processes writes there
    bool list_fs = false;
    std::int64_t max_parallel = 16;
    std::string shell;  // empty: bash where the sandbox has it, else sh
    bool login_shell = false;
    std::map<std::string, std::string> env;
    Options options;  // the backend's own keys, provider's first, then the template's

    Json ToJson() const;
    static Result<Template> FromJson(const Json& json);
};

}  // namespace sbxfs
