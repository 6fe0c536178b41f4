// `sbxfs list`: the sandboxes of this user's mounts, read through the mounts like any client would, and those
// that go on although their mount is not there.
#pragma once

#include <string>

namespace sbxfs {

struct ListRequest {
    std::string mountpoint;  // empty: all
    bool json = false;
    bool paid = false;  // only those that cost something as long as they are there
};

int ListCommand(const ListRequest& request);

}  // namespace sbxfs
