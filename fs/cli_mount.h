// `sbxfs mount`, also as mount(8)'s helper. Exit codes are those of mount(8).
#pragma once

#include <string>
#include <vector>

namespace sbxfs {

// mount(8), "EXIT STATUS".
constexpr int kBadUse = 1;
constexpr int kSystemError = 2;
constexpr int kMountFailed = 32;

struct MountRequest {
    std::string source = "sbxfs";  // what the mount table shows as its device
    std::string mountpoint;
    std::string config;
    std::vector<std::string> options;  // each OPT[,OPT]
    bool foreground = false;
    bool debug = false;
    bool sloppy = false;
    bool fake = false;  // mount -f: everything but the mount
};

int MountCommand(const MountRequest& request);

}  // namespace sbxfs
