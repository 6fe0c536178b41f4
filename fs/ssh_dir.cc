#include "fs/ssh_dir.h"

#include <sys/stat.h>

#include <algorithm>

#include "base/strings.h"

namespace sbxfs {
namespace {

// Most values know %x; in none of ours it is meant.
std::string Escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        out += c;
        if (c == '%') out += c;
    }
    return out;
}

// As a word of ssh_config(5): quoted, with quotes and backslashes escaped.
std::string QuotedPath(std::string_view path) {
    std::string out = "\"";
    for (const char c : Escaped(path)) {
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out + "\"";
}

std::string AddressLines(const Address& address, const std::string& program) {
    if (const auto* tcp = std::get_if<TcpAddress>(&address))
        return "    HostName " + Escaped(tcp->host) + "\n    Port " + std::to_string(tcp->port) +
               "\n";
    std::vector<std::string> words;
    if (const auto* carrier = std::get_if<ProgramAddress>(&address)) {
        for (const std::string& word : carrier->argv)
            words.push_back(ShellQuote(word));
        return "    ProxyCommand " + Escaped(Join(words, " ")) + "\n";
    }
    // It connects, hands the socket over and ends.
    words = {ShellQuote(program.empty() ? "sbxfs" : program), "connect-socket",
             ShellQuote(std::get_if<UnixAddress>(&address)->path)};
    return "    ProxyCommand " + Escaped(Join(words, " ")) + "\n    ProxyUseFdpass yes\n";
}

std::string LoginLines(const std::vector<ClientAuth>& auth, const std::string& directory) {
    std::string text;
    bool file = false;
    const Agent* agent = nullptr;
    for (const ClientAuth& way : auth) {
        if (const auto* identity = std::get_if<IdentityFile>(&way)) {
            text += "    IdentityFile " + QuotedPath(identity->path) + "\n";
            file = true;
        } else {
            agent = std::get_if<Agent>(&way);
        }
    }
    if (auth.empty()) {
        text += "    IdentityFile " + QuotedPath(directory + "/key") + "\n";
        file = true;
    }
    if (agent == nullptr) {
        text += "    IdentityAgent none\n";
    } else if (!agent->socket.empty()) {
        text += "    IdentityAgent " + QuotedPath(agent->socket) + "\n";
    }
    if (file && agent == nullptr) text += "    IdentitiesOnly yes\n";
    return text;
}

}  // namespace

std::string SshAlias(std::string_view name) {
    return std::string(name.substr(0, name.find('@')));
}

std::string SshConfigText(const SandboxRecord& record, const std::string& directory,
                          const std::string& program) {
    if (!record.connect) return "# There is no address yet: read again when `status` is ready.\n";
    const std::string alias = SshAlias(record.name);
    std::string text = "# ssh -F " + ShellQuote(directory + "/config") + " " + alias + "\n";
    text += "Host " + alias + (alias == "box" ? "" : " box") + "\n";
    text += AddressLines(record.connect->address, program);
    text += "    User " + Escaped(record.connect->user) + "\n";
    text += "    HostKeyAlias " + alias + "\n";
    text += "    UserKnownHostsFile " + QuotedPath(directory + "/known_hosts") + "\n";
    text += "    GlobalKnownHostsFile /dev/null\n";
    text += "    StrictHostKeyChecking yes\n";
    text += "    UpdateHostKeys no\n";
    text += LoginLines(record.connect->auth, directory);
    return text;
}

std::string KnownHostsText(const SandboxRecord& record) {
    if (!record.connect) return "";
    const std::string alias = SshAlias(record.name);
    std::string text = alias + " " + record.connect->host_key + "\n";
    for (const std::string& key : record.connect->other_host_keys)
        text += alias + " " + key + "\n";
    return text;
}

Attr SshDir::Stat() const {
    Attr attr;
    attr.mode = S_IFDIR | 0700;
    attr.atime = attr.mtime = attr.ctime = FromEpochMs(sandbox_->created_ms());
    return attr;
}

std::vector<ControlDir::Name> SshDir::List() const {
    return {{"config", S_IFREG}, {"known_hosts", S_IFREG}};
}

std::optional<Child> SshDir::FindChild(std::string_view name) const {
    const SandboxPtr box = sandbox_;
    // When the address became known.
    const auto changed = [box] {
        const SandboxRecord record = box->Snapshot().record;
        for (const auto& [phase, at_ms] : record.phases) {
            if (phase == "launched") return FromEpochMs(at_ms);
        }
        return FromEpochMs(record.created_ms);
    };
    if (name == "config") {
        return TextChild(
            mount(), "config",
            [&m = mount(), box] {
                return SshConfigText(box->Snapshot().record,
                                     m.settings.mountpoint + "/" + box->name() + "/ssh",
                                     m.settings.program);
            },
            changed);
    }
    if (name == "known_hosts") {
        return TextChild(
            mount(), "known_hosts", [box] { return KnownHostsText(box->Snapshot().record); },
            changed);
    }
    // Where the login is the user's own, there is no key of ours.
    const SandboxRecord record = box->Snapshot().record;
    if (name == "key" && (!record.connect || record.connect->auth.empty())) {
        return PrivateTextChild(
            mount(), "key",
            [box] { return std::string(box->Snapshot().record.client_key.private_pem.Reveal()); },
            [box] { return FromEpochMs(box->created_ms()); });
    }
    return std::nullopt;
}

}  // namespace sbxfs
