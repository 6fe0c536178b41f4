#include "sandbox/providers/ssh/proxy_jump.h"

#include <string>
#include <string_view>
#include <vector>

#include "base/strings.h"

namespace sbxfs {
namespace {

// ssh(1) takes %x in most values for something.
std::string PercentEscaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        out += c;
        if (c == '%') out += c;
    }
    return out;
}

std::string QuotedPath(std::string_view path) {
    return "\"" + PercentEscaped(path) + "\"";
}

std::vector<std::string> CommonOptions(const SshSettings& settings) {
    std::vector<std::string> options = {
        // Nobody is there to be asked, nothing is trusted on first use.
        "BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=10",
        // The program ends with the link, and a dead hop is noticed.
        "ControlMaster=no", "ControlPath=none", "ServerAliveInterval=15", "ServerAliveCountMax=2",
        "ForwardAgent=no", "PermitLocalCommand=no", "LogLevel=ERROR"};
    if (settings.own_known_hosts) {
        options.push_back("UserKnownHostsFile=" + QuotedPath(settings.known_hosts_files.front()));
        options.emplace_back("GlobalKnownHostsFile=/dev/null");
    }
    bool agent = false;
    for (const ClientAuth& way : settings.auth) {
        if (const auto* file = std::get_if<IdentityFile>(&way)) {
            options.push_back("IdentityFile=" + QuotedPath(file->path));
        } else {
            agent = true;
            const std::string& socket = std::get_if<Agent>(&way)->socket;
            if (!socket.empty()) options.push_back("IdentityAgent=" + QuotedPath(socket));
        }
    }
    if (!agent) options.emplace_back("IdentityAgent=none");
    return options;
}

std::string HostAndPort(const std::string& host, std::uint16_t port) {
    return "[" + host + "]:" + std::to_string(port == 0 ? 22 : port);
}

// The command that goes through the first `count` hops to `target`.
std::vector<std::string> Command(const SshSettings& settings, std::size_t count,
                                 const std::string& target) {
    const Jump& last = settings.jumps[count - 1];
    std::vector<std::string> words = {"ssh", "-a", "-x", "-T"};
    for (const std::string& option : CommonOptions(settings)) {
        words.emplace_back("-o");
        words.push_back(option);
    }
    if (count > 1) {
        std::vector<std::string> quoted;
        for (const std::string& word :
             Command(settings, count - 1, HostAndPort(last.host, last.port)))
            quoted.push_back(ShellQuote(word));
        words.emplace_back("-o");
        words.push_back("ProxyCommand=" + PercentEscaped(Join(quoted, " ")));
    }
    if (last.port != 0) {
        words.emplace_back("-p");
        words.push_back(std::to_string(last.port));
    }
    if (!last.user.empty()) {
        words.emplace_back("-l");
        words.push_back(last.user);
    }
    words.emplace_back("-W");
    words.push_back(target);
    words.emplace_back("--");
    words.push_back(last.host);
    return words;
}

}  // namespace

ProgramAddress ThroughJumps(const SshSettings& settings) {
    ProgramAddress program;
    program.argv = Command(settings, settings.jumps.size(),
                           HostAndPort(settings.address.host, settings.address.port));
    std::vector<std::string> hops;
    for (const Jump& jump : settings.jumps)
        hops.push_back(jump.host);
    program.shown = AddressText(settings.address) + " via " + Join(hops, ", ");
    return program;
}

}  // namespace sbxfs
