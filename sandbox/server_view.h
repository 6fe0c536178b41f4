// A sandbox as its file server sees it: who the server is, and which file systems are mounted where. Read from the
// server's own /proc, so that what it may do can be told without asking for each directory. What it says is
// a hint: a change that was thought to succeed and does not is reported as lost, never hidden.
//
// A value; Ask() on the sandbox's loop.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/unique_function.h"
#include "sandbox/remote_files.h"

namespace sbxfs {

struct ServerView {
    struct Mount {
        std::string path;
        bool writable = false;
    };
    std::uint32_t uid = 0;  // new files are theirs
    std::uint32_t gid = 0;
    std::map<std::string, Mount> mounts;  // by path; "/" is always there

    // The file system that `path` is on.
    const Mount& MountOf(const std::string& path) const;

    // From the texts of /proc/self/status and /proc/self/mountinfo (proc(5)); nothing when they are not such.
    static std::optional<ServerView> Parse(std::string_view status, std::string_view mountinfo);
    // Nothing where there is no /proc to be read.
    static void Ask(RemoteFiles& files, UniqueFunction<void(std::optional<ServerView>)> done);
};

}  // namespace sbxfs
