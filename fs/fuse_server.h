// The libfuse session: mounts, runs the request threads, unmounts. Owned by the daemon's main thread,
// which spends its life in Run().
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace sbxfs {

class FileSystem;

class FuseServer {
 public:
    struct Options {
        std::string mountpoint;            // absolute, without links
        std::string source = "sbxfs";      // what the mount table shows as its device
        std::vector<std::string> options;  // for mount(2): "allow_other", "ro", "noexec"
    };
    // Mounts. ENODEV without /dev/fuse, ENOENT without fusermount3 (for ordinary users), EBUSY; each
    // with a remedy. `fs` outlives the server.
    static Result<std::unique_ptr<FuseServer>> Mount(const Options& options, FileSystem& fs);
    // Unmounts if it is still mounted.
    ~FuseServer();
    FuseServer(const FuseServer&) = delete;
    FuseServer& operator=(const FuseServer&) = delete;

    // Serves until unmounted, or SIGINT or SIGTERM.
    Status Run();

 private:
    struct Session;
    FuseServer(std::unique_ptr<Session> session, FileSystem& fs, std::string mountpoint);
    std::unique_ptr<Session> session_;
    FileSystem& fs_;
    const std::string mountpoint_;
};

}  // namespace sbxfs
