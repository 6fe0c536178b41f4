#include "sandbox/providers/ssh/ssh_settings.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/did_you_mean.h"
#include "base/strings.h"
#include "sandbox/ssh_keys.h"

namespace sbxfs {
namespace {

const std::vector<std::string_view> kOptions = {
    "host",     "port",       "user",      "identity_file", "agent", "known_hosts_file",
    "host_key", "proxy_jump", "spool_dir",
};

Error WrongOption(std::string what) {
    return {Errno{EINVAL}, std::move(what)};
}

// A word of a command line or of an ssh configuration: nothing in it is taken for anything else.
bool IsPlainWord(std::string_view text) {
    return !text.empty() && text.size() <= 255 && text.front() != '-' &&
           std::all_of(text.begin(), text.end(), [](char c) {
               const bool safe = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                                 (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_' ||
                                 c == ':' || c == '%' || c == '+' || c == '@' || c == '\\';
               return safe;
           });
}

bool IsHost(std::string_view text) {
    return IsPlainWord(text) && text.find_first_of("@+\\") == std::string_view::npos;
}

class Reader {
 public:
    Reader(const Template& what, const SshSelf& self) : what_(what), self_(self) {}

    Result<SshSettings> Read() {
        (void)TRY(CheckKnown());
        SshSettings settings;
        settings.address.host = TRY(Text("host"));
        if (settings.address.host.empty())
            return WrongOption("`host` is missing: the name or address of the machine");
        if (!IsHost(settings.address.host))
            return WrongOption("`host` must be a name or an address");
        settings.address.port = TRY(Port());
        settings.user = TRY(Text("user"));
        if (settings.user.empty()) settings.user = self_.user;
        if (!IsPlainWord(settings.user))
            return WrongOption("`user` must be the name of a user there");
        settings.auth = TRY(Auth());
        settings.host_keys = TRY(HostKeys());
        (void)TRY(KnownHostsFiles(settings));
        const std::string jumps = TRY(Text("proxy_jump"));
        settings.jumps = TRY(ParseJumps(jumps));
        settings.spool_base = TRY(Path("spool_dir"));
        (void)TRY(CheckTemplate());
        return settings;
    }

 private:
    const OptionValue* Find(const std::string& key) const {
        const auto it = what_.options.find(key);
        return it == what_.options.end() ? nullptr : &it->second;
    }

    Status CheckKnown() const {
        for (const auto& [key, value] : what_.options) {
            if (std::find(kOptions.begin(), kOptions.end(), key) != kOptions.end()) continue;
            const std::vector<std::string> all(kOptions.begin(), kOptions.end());
            return WrongOption("unknown option `" + Printable(key, 64) + "` for provider ssh" +
                               DidYouMean(key, kOptions, "; there are: " + Join(all, ", "), '`'));
        }
        return Ok();
    }

    // What every template has, and a machine one already has does not.
    Status CheckTemplate() const {
        if (!what_.image.empty())
            return WrongOption("`image`: provider ssh uses a machine as it is; remove it");
        if (what_.cpu != 0 || what_.memory != 0)
            return WrongOption(
                "`cpu` and `memory`: provider ssh uses a machine as it is; remove them");
        return Ok();
    }

    // Empty when it is absent.
    Result<std::string> Text(const std::string& key) const {
        const OptionValue* value = Find(key);
        if (value == nullptr) return std::string();
        const auto* text = std::get_if<std::string>(value);
        if (text == nullptr || text->empty() || text->find('\0') != std::string::npos ||
            text->find('\n') != std::string::npos)
            return WrongOption("`" + key + "` must be a string of one line");
        return *text;
    }

    Result<std::uint16_t> Port() const {
        const OptionValue* value = Find("port");
        if (value == nullptr) return std::uint16_t{22};
        const auto* number = std::get_if<std::int64_t>(value);
        if (number == nullptr || *number < 1 || *number > 65535)
            return WrongOption("`port` must be a whole number from 1 to 65535");
        return static_cast<std::uint16_t>(*number);
    }

    Result<std::string> Path(const std::string& key) const {
        const std::string text = TRY(Text(key));
        return text.empty() ? Result<std::string>(text) : Expanded(key, text);
    }

    Result<std::string> Expanded(const std::string& key, std::string text) const {
        if (text.starts_with("~/")) text = self_.home + text.substr(1);
        while (text.size() > 1 && text.back() == '/')
            text.pop_back();
        // OpenSSH's configuration has no way to write a quote in a path.
        if (!text.starts_with('/') || text.find('"') != std::string::npos)
            return WrongOption("`" + key + "` must be an absolute path or begin with ~/");
        return text;
    }

    Result<std::vector<ClientAuth>> Auth() const {
        std::vector<ClientAuth> auth;
        const std::string file = TRY(Path("identity_file"));
        if (!file.empty()) auth.emplace_back(IdentityFile{file});
        const OptionValue* agent = Find("agent");
        if (agent == nullptr) {
            if (self_.agent) auth.emplace_back(Agent{});
        } else if (const auto* wanted = std::get_if<bool>(agent)) {
            if (*wanted) auth.emplace_back(Agent{});
        } else if (std::holds_alternative<std::string>(*agent)) {
            auth.emplace_back(Agent{TRY(Path("agent"))});
        } else {
            return WrongOption("`agent` must be true, false or the path of an agent's socket");
        }
        if (auth.empty()) {
            return WrongOption(
                "there is no way to log in: set `identity_file`, or start sbxfs where "
                "SSH_AUTH_SOCK "
                "names an ssh-agent");
        }
        return auth;
    }

    Result<std::vector<std::string>> HostKeys() const {
        const OptionValue* value = Find("host_key");
        if (value == nullptr) return std::vector<std::string>{};
        std::vector<std::string> lines;
        if (const auto* one = std::get_if<std::string>(value)) {
            lines.push_back(*one);
        } else if (const auto* several = std::get_if<std::vector<std::string>>(value)) {
            lines = *several;
        }
        std::vector<std::string> keys;
        for (const std::string& line : lines) {
            Result<std::string> key = ParsePublicLine(line);
            if (!key) return WrongOption("`host_key`: " + key.error().what());
            if (!IsHostKeyType(key->substr(0, key->find(' ')))) {
                return WrongOption("`host_key`: sbxfs cannot check keys of type " +
                                   Printable(key->substr(0, key->find(' ')), 64));
            }
            keys.push_back(*std::move(key));
        }
        if (keys.empty())
            return WrongOption("`host_key` must be a public key line, \"ssh-ed25519 AAAA...\"");
        return keys;
    }

    Status KnownHostsFiles(SshSettings& settings) const {
        const std::string file = TRY(Path("known_hosts_file"));
        if (!file.empty() && !settings.host_keys.empty())
            return WrongOption("`host_key` and `known_hosts_file`: one of them is enough");
        settings.own_known_hosts = !file.empty();
        if (!file.empty()) {
            settings.known_hosts_files = {file};
        } else {
            settings.known_hosts_files = {self_.home + "/.ssh/known_hosts",
                                          "/etc/ssh/ssh_known_hosts"};
        }
        return Ok();
    }

    const Template& what_;
    const SshSelf& self_;
};

}  // namespace

SshSelf SshSelf::Now() {
    SshSelf self;
    // NOLINTBEGIN(concurrency-mt-unsafe): before threads start
    if (const char* home = ::getenv("HOME"); home != nullptr && home[0] == '/') self.home = home;
    const char* agent = ::getenv("SSH_AUTH_SOCK");
    self.agent = agent != nullptr && *agent != '\0';
    if (const struct passwd* me = ::getpwuid(::geteuid()); me != nullptr) {
        self.user = me->pw_name;
        if (self.home.empty()) self.home = me->pw_dir;
    }
    // NOLINTEND(concurrency-mt-unsafe)
    return self;
}

Result<SshSettings> ReadSshSettings(const Template& what, const SshSelf& self) {
    return Reader(what, self).Read();
}

Result<std::vector<Jump>> ParseJumps(std::string_view text) {
    std::vector<Jump> jumps;
    if (text.empty()) return jumps;
    for (const std::string& part : Split(text, ',')) {
        const Error bad =
            WrongOption("`proxy_jump`: \"" + Printable(part, 200) + "\" is not user@host:port");
        Jump jump;
        std::string_view rest = Trim(part);
        if (const std::size_t at = rest.rfind('@'); at != std::string_view::npos) {
            jump.user = rest.substr(0, at);
            rest.remove_prefix(at + 1);
            if (!IsPlainWord(jump.user)) return bad;
        }
        std::string_view port;
        if (rest.starts_with('[')) {
            const std::size_t end = rest.find(']');
            if (end == std::string_view::npos) return bad;
            jump.host = rest.substr(1, end - 1);
            rest.remove_prefix(end + 1);
            if (!rest.empty() && !rest.starts_with(':')) return bad;
            if (!rest.empty()) port = rest.substr(1);
            if (!rest.empty() && port.empty()) return bad;
        } else if (const std::size_t colon = rest.find(':');
                   colon != std::string_view::npos && rest.find(':', colon + 1) == rest.npos) {
            jump.host = rest.substr(0, colon);
            port = rest.substr(colon + 1);
            if (port.empty()) return bad;
        } else {
            jump.host = rest;
        }
        if (!IsHost(jump.host)) return bad;
        if (!port.empty()) {
            const auto number = ParseNumber<std::uint16_t>(port);
            if (!number || *number == 0) return bad;
            jump.port = *number;
        }
        jumps.push_back(std::move(jump));
    }
    return jumps;
}

}  // namespace sbxfs
