// toml++ is included here only; its errors become Results with file and line.
// Debian's library is compiled with exceptions; compiled in here, it returns its errors.
//
// It takes for granted what a malformed file breaks ("[="): by assert(3), which ends us, or with NDEBUG by a
// promise to the optimiser. Its own checks behind those give an error, so neither is wanted. Test:
// ConfigFile.WhatIsNoTomlIsAnErrorWithItsLine.
#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#define TOML_ASSERT(expr) static_assert(true)
#pragma push_macro("NDEBUG")
#undef NDEBUG
#include <toml++/toml.h>
#pragma pop_macro("NDEBUG")

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <vector>

#include "base/did_you_mean.h"
#include "base/files.h"
#include "base/json.h"
#include "base/strings.h"
#include "fs/backend_check.h"
#include "fs/config.h"
#include "fs/config_keys.h"
#include "sandbox/backends.h"
#include "sandbox/names.h"

namespace sbxfs {
namespace {

// The line of the first letter beyond ASCII outside of quotes and comments, where TOML has none; 0: there is none. toml++
// asks of each such letter whether it is a blank, and has undefined behaviour on some (U+00D2).
std::size_t LineOfForeignLetter(std::string_view text) {
    std::size_t line = 1;
    std::size_t at = text.starts_with("\xef\xbb\xbf") ? 3 : 0;
    const auto skip_to = [&](std::string_view end, bool escapes, bool one_line) {
        while (at < text.size() && !text.substr(at).starts_with(end)) {
            if (text[at] == '\n' && one_line) return;
            if (text[at] == '\\' && escapes) ++at;
            if (at < text.size() && text[at] == '\n') ++line;
            ++at;
        }
        at = std::min(at + end.size(), text.size());
    };
    while (at < text.size()) {
        const char c = text[at];
        if (c == '"' || c == '\'') {
            const std::string_view three = c == '"' ? "\"\"\"" : "'''";
            const bool many = text.substr(at).starts_with(three);
            const std::string_view end = many ? three : three.substr(0, 1);
            at += end.size();
            skip_to(end, c == '"', !many);
            continue;
        }
        if (c == '#') {
            while (at < text.size() && text[at] != '\n')
                ++at;
            continue;
        }
        if (c == '\n') ++line;
        if (static_cast<unsigned char>(c) >= 0x80) return line;
        ++at;
    }
    return 0;
}

// Walks one document. Every error says file:line and what to do.
class Reader {
 public:
    Reader(std::string file, Variables variable) : file_(std::move(file)), variable_(variable) {}
    // For what is written in the mount: with the providers there are, and nothing expanded.
    Reader(std::string file, const Config& config)
        : file_(std::move(file)), variable_(nullptr), providers_(config.providers) {}

    Result<Template> ReadOne(const std::string& name, std::string_view text) {
        if (const std::size_t line = LineOfForeignLetter(text)) {
            return Fail(
                line,
                "a letter that is not ASCII stands outside of quotes: put the name in quotes");
        }
        const toml::parse_result parsed = toml::parse(text, file_);
        if (!parsed) {
            return Fail(parsed.error().source().begin.line,
                        std::string(parsed.error().description()));
        }
        const toml::table& root = parsed.table();
        const toml::node* templates = root.get("templates");
        if (templates == nullptr) return ReadTemplate(name, root);
        const toml::table* all = templates->as_table();
        const toml::table* own = all == nullptr ? nullptr : all->get_as<toml::table>(name);
        if (root.size() != 1 || own == nullptr || all->size() != 1) {
            return Fail(Line(*templates), "this file is about [templates." + name +
                                              "] alone; another template is another file");
        }
        return ReadTemplate(name, *own);
    }

    // `base` with other values of some keys.
    Result<Template> ReadOverrides(Template base, std::string_view text) {
        if (const std::size_t line = LineOfForeignLetter(text)) {
            return Fail(
                line,
                "a letter that is not ASCII stands outside of quotes: put the name in quotes");
        }
        const toml::parse_result parsed = toml::parse(text, file_);
        if (!parsed) return Error(Errno{EINVAL}, std::string(parsed.error().description()));
        const toml::table& root = parsed.table();
        if (root.contains("provider")) return ReadTemplate(base.name, root);
        (void)TRY(ReadMembers(root, base, "a sandbox of template '" + base.name + "'"));
        (void)TRY(CheckBackendSettings(base));
        return base;
    }

    Result<Config> Read(std::string_view text) {
        if (const std::size_t line = LineOfForeignLetter(text)) {
            return Fail(
                line,
                "a letter that is not ASCII stands outside of quotes: put the name in quotes");
        }
        const toml::parse_result parsed = toml::parse(text, file_);
        if (!parsed) {
            return Fail(parsed.error().source().begin.line,
                        std::string(parsed.error().description()));
        }
        const toml::table& root = parsed.table();
        (void)TRY(CheckKeys(root, NamesOf(TopKeys()), "the configuration"));
        Config config = BuiltInConfig();
        config.file = file_;
        if (const toml::node* node = root.get("default_template")) {
            config.default_template = TRY(String(*node, "default_template"));
        }
        if (const toml::node* node = root.get("max_sandboxes")) {
            config.max_sandboxes = TRY(Number(*node, "max_sandboxes", 0, 1'000'000));
        }
        if (const toml::node* node = root.get("cache_mib")) {
            config.cache_mib = TRY(Number(*node, "cache_mib", 1, 1'000'000));
        }
        if (const toml::node* node = root.get("providers")) (void)TRY(ReadProviders(*node));
        if (const toml::node* node = root.get("templates")) (void)TRY(ReadTemplates(*node, config));
        if (!config.templates.contains(config.default_template)) {
            const toml::node* node = root.get("default_template");
            return Fail(node == nullptr ? 1 : Line(*node),
                        "default_template names '" + config.default_template +
                            "', but there is no [templates." + config.default_template + "]");
        }
        if (secret_) config.secret = secret_->what();
        config.providers = providers_;
        return config;
    }

 private:
    static std::size_t Line(const toml::node& node) { return node.source().begin.line; }

    Error Fail(std::size_t line, const std::string& what) const {
        if (file_.empty()) return {Errno{EINVAL}, what};
        return {Errno{EINVAL}, file_ + ":" + std::to_string(line) + ": " + what};
    }

    Status CheckKeys(const toml::table& table, const std::vector<std::string_view>& known,
                     const std::string& where) const {
        for (const auto& [key, node] : table) {
            if (std::find(known.begin(), known.end(), key.str()) != known.end()) continue;
            return Fail(key.source().begin.line, "unknown key '" + Printable(key.str(), 64) +
                                                     "' in " + where +
                                                     DidYouMean(key.str(), known));
        }
        return Ok();
    }

    Result<std::string> String(const toml::node& node, std::string_view key) const {
        const auto value = node.value<std::string>();
        if (!node.is_string() || !value)
            return Fail(Line(node), std::string(key) + " must be a string");
        return Expand(*value, Line(node));
    }

    Result<std::string> Expand(const std::string& text, std::size_t line) const {
        if (variable_ == nullptr) return text;
        std::string out;
        for (std::size_t at = 0; at < text.size();) {
            if (text.compare(at, 2, "${") != 0) {
                out += text[at++];
                continue;
            }
            const std::size_t end = text.find('}', at);
            if (end == std::string::npos) return Fail(line, "'${' without '}'");
            const std::string name = text.substr(at + 2, end - at - 2);
            const auto value = variable_(name);
            if (!value)
                return Fail(line, "environment variable " + Printable(name, 64) + " is not set");
            out += *value;
            at = end + 1;
        }
        return out;
    }

    Result<std::int64_t> Number(const toml::node& node, std::string_view key, std::int64_t low,
                                std::int64_t high) const {
        const auto value = node.value<std::int64_t>();
        if (!node.is_integer() || !value || *value < low || *value > high) {
            return Fail(Line(node), std::string(key) + " must be a whole number from " +
                                        std::to_string(low) + " to " + std::to_string(high));
        }
        return *value;
    }

    Result<bool> Bool(const toml::node& node, std::string_view key) const {
        const auto value = node.value<bool>();
        if (!node.is_boolean() || !value)
            return Fail(Line(node), std::string(key) + " must be true or false");
        return *value;
    }

    Result<std::int64_t> Seconds(const toml::node& node, std::string_view key) const {
        std::optional<std::int64_t> seconds;
        if (node.is_integer()) {
            seconds = ParseSeconds(std::to_string(node.value<std::int64_t>().value_or(-1)));
        }
        if (node.is_string()) seconds = ParseSeconds(TRY(String(node, key)));
        if (!seconds) {
            return Fail(
                Line(node),
                std::string(key) +
                    " must be a duration like \"90s\", \"30m\", \"4h\" or \"2d\" (0: none)");
        }
        return *seconds;
    }

    Result<std::string> AbsolutePath(const toml::node& node, std::string_view key) const {
        std::string path = TRY(String(node, key));
        while (path.size() > 1 && path.back() == '/')
            path.pop_back();
        const std::vector<std::string> parts = Split(path, '/');
        const bool plain =
            std::none_of(parts.begin() + 1, parts.end(), [&](const std::string& part) {
                return part == "." || part == ".." || (part.empty() && path != "/");
            });
        if (!path.starts_with('/') || !plain || path.find('\0') != std::string::npos) {
            return Fail(Line(node),
                        std::string(key) + " must be an absolute path without . and ..");
        }
        return path;
    }

    Result<OptionValue> Option(const toml::node& node, std::string_view key) const {
        if (node.is_string()) return OptionValue(TRY(String(node, key)));
        if (node.is_integer()) return OptionValue(node.value<std::int64_t>().value_or(0));
        if (node.is_boolean()) return OptionValue(node.value<bool>().value_or(false));
        if (const toml::array* array = node.as_array()) {
            std::vector<std::string> words;
            for (const toml::node& element : *array)
                words.push_back(TRY(String(element, key)));
            return OptionValue(std::move(words));
        }
        return Fail(
            Line(node),
            std::string(key) + " must be a string, a number, true or false, or a list of strings");
    }

    Status ReadProviders(const toml::node& node) {
        const toml::table* providers = node.as_table();
        if (providers == nullptr)
            return Fail(Line(node), "providers must be tables: [providers.NAME]");
        for (const auto& [name, entry] : *providers) {
            const std::string where = "[providers." + std::string(name.str()) + "]";
            const toml::table* table = entry.as_table();
            if (table == nullptr) return Fail(Line(entry), where + " must be a table");
            ProviderConfig config;
            const toml::node* backend = table->get("backend");
            if (backend == nullptr) {
                return Fail(Line(entry), where + " needs backend = \"" +
                                             std::string(BackendNames().front()) +
                                             "\" or another one");
            }
            config.backend = TRY(String(*backend, "backend"));
            const std::vector<std::string_view> backends = BackendNames();
            if (std::find(backends.begin(), backends.end(), config.backend) == backends.end()) {
                return Fail(Line(*backend), "there is no backend '" +
                                                Printable(config.backend, 64) +
                                                "'; there are: " + Words(backends));
            }
            std::vector<std::string_view> known = NamesOf(ProviderKeys());
            const std::vector<std::string_view> own = NamesOf(BackendOptions(config.backend));
            known.insert(known.end(), own.begin(), own.end());
            (void)TRY(CheckKeys(*table, known, where));
            for (const auto& [key, value] : *table) {
                if (key.str() == "backend") continue;
                OptionValue option = TRY(Option(value, key.str()));
                config.options[std::string(key.str())] = std::move(option);
            }
            Template any;
            any.backend = config.backend;
            any.options = config.options;
            if (const Status fine = CheckBackendSettings(any); !fine)
                return Fail(Line(entry), where + ": " + fine.error().what());
            providers_[std::string(name.str())] = std::move(config);
        }
        return Ok();
    }

    static std::string Words(const std::vector<std::string_view>& words) {
        return Join(std::vector<std::string>(words.begin(), words.end()), ", ");
    }

    Status ReadTemplates(const toml::node& node, Config& config) {
        const toml::table* templates = node.as_table();
        if (templates == nullptr)
            return Fail(Line(node), "templates must be tables: [templates.NAME]");
        for (const auto& [name, entry] : *templates) {
            const toml::table* table = entry.as_table();
            const std::string key(name.str());
            if (table == nullptr)
                return Fail(Line(entry), "[templates." + key + "] must be a table");
            if (const auto parsed = ParseSandboxName(key);
                !parsed || !parsed->template_name.empty()) {
                return Fail(name.source().begin.line,
                            "'" + Printable(key, 64) + "' cannot name a template");
            }
            Template what = TRY(ReadTemplate(key, *table));
            config.templates[key] = std::move(what);
        }
        return Ok();
    }

    Result<Template> ReadTemplate(const std::string& name, const toml::table& table) {
        Template what;
        what.name = name;
        if (const toml::node* node = table.get("provider")) {
            what.provider = TRY(String(*node, "provider"));
            const std::vector<std::string_view> backends = BackendNames();
            if (!providers_.contains(what.provider) &&
                std::find(backends.begin(), backends.end(), what.provider) == backends.end()) {
                std::vector<std::string_view> known = backends;
                for (const auto& [provider, config] : providers_)
                    known.push_back(provider);
                return Fail(Line(*node),
                            "there is no [providers." + Printable(what.provider, 64) +
                                "], and no backend of that name" +
                                DidYouMean(what.provider, known, "; there are: " + Words(known)));
            }
        }
        what.backend = what.provider;
        if (const auto it = providers_.find(what.provider); it != providers_.end()) {
            what.backend = it->second.backend;
            what.options = it->second.options;
        }
        ApplyBackendDefaults(what);
        (void)TRY(ReadMembers(table, what, "[templates." + name + "]"));
        const std::string where = "[templates." + name + "]";
        if (what.workdir.empty() && what.fs_root != "/") what.workdir = what.fs_root;
        if (what.workdir.empty()) {
            return Fail(Line(table), where +
                                         " needs workdir = \"/...\", a directory that is there on "
                                         "that machine: nothing is made there");
        }
        if (const Status fine = CheckBackendSettings(what); !fine)
            return Fail(Line(table), where + ": " + fine.error().what());
        return what;
    }

    Status ReadMembers(const toml::table& table, Template& what, const std::string& where) {
        std::vector<std::string_view> known = NamesOf(TemplateKeys());
        const std::vector<std::string_view> own = NamesOf(BackendOptions(what.backend));
        known.insert(known.end(), own.begin(), own.end());
        (void)TRY(CheckKeys(table, known, where));
        for (const auto& [key, node] : table)
            (void)TRY(ReadMember(std::string(key.str()), node, what));
        return Ok();
    }

    Status ReadMember(const std::string& key, const toml::node& node, Template& what) {
        constexpr std::int64_t kMuch = 1'000'000'000;
        if (key == "provider") return Ok();
        if (key == "workdir") return Into(what.workdir, AbsolutePath(node, key));
        if (key == "fs_root") return Into(what.fs_root, AbsolutePath(node, key));
        if (key == "image") return Into(what.image, String(node, key));
        if (key == "cpu") return Into(what.cpu, Number(node, key, 0, kMuch));
        if (key == "memory") return Into(what.memory, Number(node, key, 0, kMuch));
        if (key == "max_lifetime") return Into(what.max_lifetime_s, Seconds(node, key));
        if (key == "idle_timeout") return Into(what.idle_timeout_s, Seconds(node, key));
        if (key == "exclusive") return Into(what.exclusive, Bool(node, key));
        if (key == "list_fs") return Into(what.list_fs, Bool(node, key));
        if (key == "max_parallel") return Into(what.max_parallel, Number(node, key, 1, 1024));
        if (key == "shell") return Into(what.shell, AbsolutePath(node, key));
        if (key == "login_shell") return Into(what.login_shell, Bool(node, key));
        if (key == "env") return ReadEnv(node, what);
        OptionValue option = TRY(Option(node, key));
        what.options[key] = std::move(option);
        return Ok();
    }

    // Names that programs give to what nobody else should know.
    static bool NamesSecret(std::string_view name) {
        std::string upper(name);
        std::transform(upper.begin(), upper.end(), upper.begin(),
                       [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
        for (const char* word : {"SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL"}) {
            if (upper.find(word) != std::string::npos) return true;
        }
        return upper.ends_with("_KEY");
    }

    Status ReadEnv(const toml::node& node, Template& what) {
        const toml::table* table = node.as_table();
        if (table == nullptr)
            return Fail(Line(node), "env must be a table: env = { NAME = \"value\" }");
        for (const auto& [key, value] : *table) {
            std::string text = TRY(String(value, "env." + std::string(key.str())));
            if (NamesSecret(key.str()) && value.value<std::string>() == text && !secret_)
                secret_ =
                    Fail(Line(value), "env." + std::string(key.str()) + " looks like a secret");
            if (text.find('\0') != std::string::npos) {
                return Fail(Line(value), "env." + Printable(key.str(), 64) +
                                             " holds a NUL byte, which no environment can hold");
            }
            if (key.str().empty() ||
                key.str().find_first_of(std::string_view("=\0", 2)) != std::string_view::npos) {
                return Fail(Line(value),
                            "'" + Printable(key.str(), 64) + "' cannot name a variable");
            }
            what.env[std::string(key.str())] = std::move(text);
        }
        return Ok();
    }

    template <class T>
    static Status Into(T& to, Result<T> from) {
        if (!from) return std::move(from).error();
        to = std::move(*from);
        return Ok();
    }

    const std::string file_;
    const Variables variable_;
    std::map<std::string, ProviderConfig> providers_;
    std::optional<Error> secret_;  // the first that stands in the file itself
};

// JSON's strings are TOML's basic strings.
std::string Quoted(std::string_view text) {
    return Json::String(text).Dump();
}

// A key as it stands in a table's name: bare where TOML lets it.
std::string KeyText(const std::string& key) {
    const bool bare = !key.empty() && std::all_of(key.begin(), key.end(), [](unsigned char c) {
        return std::isalnum(c) != 0 || c == '_' || c == '-';
    });
    return bare ? key : Quoted(key);
}

std::string ValueText(const OptionValue& value) {
    if (const auto* text = std::get_if<std::string>(&value)) return Quoted(*text);
    if (const auto* number = std::get_if<std::int64_t>(&value)) return std::to_string(*number);
    if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
    std::vector<std::string> quoted;
    for (const std::string& word : std::get<std::vector<std::string>>(value))
        quoted.push_back(Quoted(word));
    return "[" + Join(quoted, ", ") + "]";
}

std::optional<std::string> FromEnvironment(const std::string& name) {
    const char* value =
        ::getenv(name.c_str());  // NOLINT(concurrency-mt-unsafe): before threads start
    if (value == nullptr) return std::nullopt;
    return value;
}

}  // namespace

Config BuiltInConfig() {
    Config config;
    Template what;
    what.name = "default";
    config.templates["default"] = what;
    return config;
}

Result<Config> ParseConfig(std::string_view text, const std::string& file, Variables variable) {
    return Reader(file, variable).Read(text);
}

Result<Template> ParseTemplate(const Config& config, const std::string& name,
                               std::string_view text) {
    Template what = TRY(Reader("templates/" + name + ".toml", config).ReadOne(name, text));
    const auto before = config.templates.find(name);
    for (auto& [key, value] : what.env) {
        if (value != "<set>") continue;
        if (before == config.templates.end() || !before->second.env.contains(key)) {
            return Error(Errno{EINVAL},
                         "env." + key +
                             " is '<set>', which is what reading shows in place of a "
                             "value: write the value itself");
        }
        value = before->second.env.at(key);
    }
    return what;
}

Result<Template> OverrideTemplate(const Config& config, Template base, std::string_view text) {
    return Reader("", config).ReadOverrides(std::move(base), text);
}

Result<Config> LoadConfig(const std::string& path) {
    std::vector<std::string> places;
    if (!path.empty()) {
        places.push_back(path);
    } else {
        if (const auto xdg = FromEnvironment("XDG_CONFIG_HOME"); xdg && xdg->starts_with('/')) {
            places.push_back(*xdg + "/sbxfs/config.toml");
        } else if (const auto home = FromEnvironment("HOME"); home && home->starts_with('/')) {
            places.push_back(*home + "/.config/sbxfs/config.toml");
        }
        places.emplace_back("/etc/sbxfs/config.toml");
    }
    for (const std::string& place : places) {
        struct stat found {};
        if (::stat(place.c_str(), &found) != 0) {
            if (path.empty() && (errno == ENOENT || errno == ENOTDIR)) continue;
            return SystemError(errno, "configuration " + place, Blame::kCaller);
        }
        if ((found.st_mode & 022) != 0 || (found.st_uid != 0 && found.st_uid != ::geteuid())) {
            return Error(Errno{EACCES},
                         place +
                             " can be written by others: chmod go-w it, and let it belong to "
                             "you or to root");
        }
        const std::string text = TRY(ReadWholeFile(place, 1U << 20));
        Result<Config> config = ParseConfig(text, place, &FromEnvironment);
        if (config && !config->secret.empty() && (found.st_mode & 044) != 0) {
            return Error(Errno{EACCES}, config->secret +
                                            ", and others can read the file: chmod 600 it, or put "
                                            "\"${VARIABLE}\" in its place");
        }
        return config;
    }
    return BuiltInConfig();
}

std::string TemplateText(const Template& what) {
    const bool bare = what.name.find('.') == std::string::npos;
    std::string text = "[templates." + (bare ? what.name : Quoted(what.name)) + "]\n";
    const auto line = [&text](std::string_view key, const std::string& value) {
        text += std::string(key) + " = " + value + "\n";
    };
    line("provider", Quoted(what.provider));
    line("workdir", Quoted(what.workdir));
    line("fs_root", Quoted(what.fs_root));
    if (!what.image.empty()) line("image", Quoted(what.image));
    if (what.cpu != 0) line("cpu", std::to_string(what.cpu));
    if (what.memory != 0) line("memory", std::to_string(what.memory));
    line("max_lifetime", Quoted(std::to_string(what.max_lifetime_s) + "s"));
    line("idle_timeout", Quoted(std::to_string(what.idle_timeout_s) + "s"));
    line("exclusive", what.exclusive ? "true" : "false");
    line("list_fs", what.list_fs ? "true" : "false");
    line("max_parallel", std::to_string(what.max_parallel));
    if (!what.shell.empty()) line("shell", Quoted(what.shell));
    line("login_shell", what.login_shell ? "true" : "false");
    std::vector<std::string> env;
    // Values may be secrets: only that they are set is shown.
    for (const auto& [key, value] : what.env)
        env.push_back(Quoted(key) + " = \"<set>\"");
    if (!env.empty()) line("env", "{ " + Join(env, ", ") + " }");
    for (const auto& [key, value] : what.options)
        line(key, ValueText(value));
    return text;
}

std::string Config::Text() const {
    std::string text = "default_template = " + Quoted(default_template) + "\n";
    text += "max_sandboxes = " + std::to_string(max_sandboxes) + "\n";
    text += "cache_mib = " + std::to_string(cache_mib) + "\n";
    for (const auto& [name, provider] : providers) {
        text += "\n[providers." + KeyText(name) + "]\nbackend = " + Quoted(provider.backend) + "\n";
        for (const auto& [key, value] : provider.options)
            text += key + " = " + ValueText(value) + "\n";
    }
    for (const auto& [name, what] : templates)
        text += "\n" + TemplateText(what);
    return text;
}

}  // namespace sbxfs
