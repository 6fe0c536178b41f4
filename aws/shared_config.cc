#include "aws/shared_config.h"

#include <unistd.h>

#include "base/files.h"
#include "base/strings.h"

namespace sbxfs::aws {
namespace {

enum class File { kConfig, kCredentials };

// The settings that lines below a section's header are for; nullptr for sections nobody knows.
Profile* SectionFor(SharedConfig& shared, std::string_view title, File file) {
    const std::vector<std::string> words = Split(title, ' ');
    const std::string name(Trim(title.substr(words.front().size())));
    if (file == File::kCredentials) return &shared.profiles[std::string(title)];
    if (title == "default") return &shared.profiles["default"];
    if (name.empty()) return nullptr;
    if (words.front() == "profile") return &shared.profiles[name];
    if (words.front() == "services") return &shared.services[name];
    if (words.front() == "sso-session") return &shared.sso_sessions[name];
    return nullptr;
}

// "value  # comment" ends before the blank; '#' inside a word belongs to it.
std::string_view WithoutComment(std::string_view value) {
    for (const std::string_view mark : {" #", " ;", "\t#", "\t;"}) {
        const std::size_t at = value.find(mark);
        if (at != std::string_view::npos) value = value.substr(0, at);
    }
    return Trim(value);
}

void ParseInto(SharedConfig& shared, std::string_view text, File file) {
    Profile* section = nullptr;
    std::string outer;  // the key whose nested settings follow
    for (const std::string& raw : Split(text, '\n')) {
        const std::string_view line = Trim(raw);
        if (line.empty() || line.starts_with('#') || line.starts_with(';')) continue;
        const bool nested = raw.starts_with(' ') || raw.starts_with('\t');
        if (!nested && line.starts_with('[')) {
            const std::size_t close = line.find(']');
            section = close == std::string_view::npos
                          ? nullptr
                          : SectionFor(shared, Trim(line.substr(1, close - 1)), file);
            outer.clear();
            continue;
        }
        const std::size_t equals = line.find('=');
        if (section == nullptr || equals == std::string_view::npos) continue;
        const std::string key(Trim(line.substr(0, equals)));
        const std::string value(WithoutComment(line.substr(equals + 1)));
        if (nested && !outer.empty()) {
            section->settings[outer + "." + key] = value;
            continue;
        }
        outer = value.empty() ? key : "";
        section->settings[key] = value;
    }
}

Result<std::string> ReadIfThere(const std::string& path) {
    auto text = ReadWholeFile(path);
    if (text) return text;
    if (text.error().code() == Errno{ENOENT} || text.error().code() == Errno{ENOTDIR})
        return std::string();
    return std::move(text).error().While("reading AWS settings");
}

}  // namespace

std::string Profile::Get(const std::string& key) const {
    const auto found = settings.find(key);
    return found == settings.end() ? "" : found->second;
}

const Profile* SharedConfig::Find(const std::string& profile) const {
    const auto found = profiles.find(profile);
    return found == profiles.end() ? nullptr : &found->second;
}

SharedConfig ParseSharedConfig(std::string_view config, std::string_view credentials) {
    SharedConfig shared;
    ParseInto(shared, config, File::kConfig);
    ParseInto(shared, credentials, File::kCredentials);
    return shared;
}

Environment CurrentEnvironment() {
    Environment environment;
    for (char** entry = ::environ; entry != nullptr && *entry != nullptr; ++entry) {
        const std::string_view text(*entry);
        const std::size_t equals = text.find('=');
        if (equals != std::string_view::npos)
            environment.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
    return environment;
}

std::string Lookup(const Environment& environment, const std::string& name) {
    const auto found = environment.find(name);
    return found == environment.end() ? "" : found->second;
}

Result<SharedConfig> LoadSharedConfig(const Environment& environment) {
    const auto path = [&](const std::string& variable, const std::string& file) {
        std::string chosen = Lookup(environment, variable);
        if (chosen.empty()) chosen = "~/.aws/" + file;
        if (chosen.starts_with("~/")) chosen = Lookup(environment, "HOME") + chosen.substr(1);
        return chosen;
    };
    const std::string config = path("AWS_CONFIG_FILE", "config");
    const std::string credentials = path("AWS_SHARED_CREDENTIALS_FILE", "credentials");
    SharedConfig shared =
        ParseSharedConfig(TRY(ReadIfThere(config)), TRY(ReadIfThere(credentials)));
    shared.config_path = config;
    shared.credentials_path = credentials;
    return shared;
}

}  // namespace sbxfs::aws
