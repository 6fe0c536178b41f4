#include "sandbox/backends.h"

namespace sbxfs {

std::vector<std::string_view> BackendNames() {
    return {"local", "ssh"};
}

std::vector<std::string_view> BackendOptions(std::string_view backend) {
    if (backend == "local") return {"binds", "network", "pids"};
    if (backend == "ssh") {
        return {"host",     "port",       "user",     "identity_file", "agent", "known_hosts_file",
                "host_key", "proxy_jump", "spool_dir"};
    }
    return {};
}

void ApplyBackendDefaults(Template& what) {
    if (what.backend != "ssh") return;
    // Others use the machine too, and it goes on when we are gone.
    what.exclusive = false;
    what.max_lifetime_s = 0;
    what.workdir.clear();  // must be said: nothing is made there
}

}  // namespace sbxfs
