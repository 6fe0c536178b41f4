#include "sandbox/backends.h"

namespace sbxfs {

std::vector<std::string_view> BackendNames() {
    return {"local"};
}

std::vector<std::string_view> BackendOptions(std::string_view backend) {
    if (backend == "local") return {"binds", "network", "pids"};
    return {};
}

}  // namespace sbxfs
