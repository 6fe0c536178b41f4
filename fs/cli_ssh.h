// `sbxfs ssh`: OpenSSH's client into a sandbox, with the configuration the mount has for it. And
// `sbxfs connect-socket`, which that configuration calls for sandboxes behind a Unix socket.
#pragma once

#include <string>
#include <vector>

namespace sbxfs {

struct SshRequest {
    std::string mountpoint;  // empty: the only one
    std::string box;
    std::vector<std::string> command;  // empty: a login shell
};

constexpr int kSshFailed = 255;  // ssh(1): an error of its own

// Becomes ssh(1), so the exit code is its; 255 when it does not come to that.
int SshCommand(const SshRequest& request);

// Connects, passes the socket to the one that reads our stdout (ssh's ProxyUseFdpass), ends.
int ConnectSocketCommand(const std::string& path);

}  // namespace sbxfs
