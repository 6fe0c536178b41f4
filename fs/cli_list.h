// `sbxfs list`: the sandboxes of this machine's mounts, read through the mounts like any client would.
#pragma once

#include <string>

namespace sbxfs {

struct ListRequest {
    std::string mountpoint;  // empty: all
    bool json = false;
};

int ListCommand(const ListRequest& request);

}  // namespace sbxfs
