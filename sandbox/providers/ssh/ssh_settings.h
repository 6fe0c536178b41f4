// The options of a template with backend `ssh`, read and checked:
//
//   host = "192.0.2.7"                     required; a name or an address
//   port = 22
//   user = "dev"                           default: the name of the mounting user
//   identity_file = "~/.ssh/id_ed25519"    a private key without a passphrase
//   agent = true | false | "/path"         default: an ssh-agent is asked where SSH_AUTH_SOCK is set
//   known_hosts_file = "~/.ssh/known_hosts"    default: that one, then /etc/ssh/ssh_known_hosts
//   host_key = "ssh-ed25519 AAAA..."       or a list of them, in place of a known_hosts file
//   proxy_jump = "user@host:port[,...]"    the way there, through ssh(1)
//   spool_dir = "/scratch"                 where .sbxfs/ is made; default: the home directory
//
// Pure: nothing is looked up on disk, since Check runs on a FUSE thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sandbox/provider.h"
#include "sandbox/template.h"

namespace sbxfs {

// Who mounts: what "~" and an absent `user` mean, and whether there is an agent to ask.
struct SshSelf {
    std::string home;
    std::string user;
    bool agent = false;

    // Of this process. Before threads start.
    static SshSelf Now();
};

struct Jump {
    std::string user;  // empty: as ssh(1) decides
    std::string host;
    std::uint16_t port = 0;  // 0: as ssh(1) decides
};

struct SshSettings {
    TcpAddress address;
    std::string user;
    std::vector<ClientAuth> auth;  // never empty
    std::vector<std::string> known_hosts_files;
    bool own_known_hosts = false;        // the file was named, rather than the default taken
    std::vector<std::string> host_keys;  // pinned here: no file is read then
    std::vector<Jump> jumps;             // in the order passed through
    std::string spool_base;              // absolute, or empty for the home directory
};

// EINVAL names the option, an unknown one together with the nearest that exists.
Result<SshSettings> ReadSshSettings(const Template& what, const SshSelf& self);

// "user@host:port,..." as ssh -J takes it.
Result<std::vector<Jump>> ParseJumps(std::string_view text);

}  // namespace sbxfs
