// `sbxfs status`: whether the mounts are well, and where everything of them is.
#pragma once

#include <string>

namespace sbxfs {

struct StatusRequest {
    std::string mountpoint;  // empty: all of this user
    bool json = false;
};

// 0 when every mount asked for answers, else 1.
int StatusCommand(const StatusRequest& request);

}  // namespace sbxfs
