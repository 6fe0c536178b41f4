#include "sandbox/backends.h"

namespace sbxfs {

std::vector<std::string_view> BackendNames() {
    return {"local", "ssh"};
}

std::vector<std::string_view> NamesOf(const std::vector<FileKey>& keys) {
    std::vector<std::string_view> names;
    for (const FileKey& key : keys)
        names.push_back(key.name);
    return names;
}

const std::vector<FileKey>& BackendOptions(std::string_view backend) {
    static const std::vector<FileKey> kNone;
    static const std::vector<FileKey> kLocal = {
        {"binds", "[\"/srv/data:/data:ro\"]", "directories of this machine that are shown inside"},
        {"network", "\"shared\"", "or \"none\""},
        {"pids", "0", "how many processes there may be; 0: no limit"},
    };
    static const std::vector<FileKey> kSsh = {
        {"host", "\"192.0.2.7\"", "a name or an address; required"},
        {"port", "22", ""},
        {"user", "\"dev\"", "default: the name of the user who mounts"},
        {"identity_file", "\"~/.ssh/id_ed25519\"", "a private key without a passphrase"},
        {"agent", "true", "or false, or the path of an agent; default: the one of SSH_AUTH_SOCK"},
        {"known_hosts_file", "\"~/.ssh/known_hosts\"",
         "default: that one, then /etc/ssh/ssh_known_hosts"},
        {"host_key", "\"ssh-ed25519 AAAA...\"", "or a list, in place of a known_hosts file"},
        {"proxy_jump", "\"admin@192.0.2.1:22\"",
         "the way there, through ssh(1); several with commas"},
        {"spool_dir", "\"/scratch\"", "where .sbxfs/ is made; default: the home directory"},
    };
    if (backend == "local") return kLocal;
    if (backend == "ssh") return kSsh;
    return kNone;
}

bool IsPaid(std::string_view backend) {
    // What runs on this machine, or on one that is there anyway, costs nothing more.
    return backend != "local" && backend != "ssh" && backend != "docker";
}

void ApplyBackendDefaults(Template& what) {
    if (what.backend != "ssh") return;
    // Others use the machine too, and it goes on when we are gone.
    what.exclusive = false;
    what.max_lifetime_s = 0;
    what.workdir.clear();  // must be said: nothing is made there
}

}  // namespace sbxfs
