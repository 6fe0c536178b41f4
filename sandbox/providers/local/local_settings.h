// The options a template may give a local sandbox, read and checked:
//
//   network = "shared" | "none"         default "shared": this machine's network as the mounting
//   user has it binds = ["SRC:DST[:ro|rw]", ...]    what else of this machine is shown; default ro
//   snapshot = "NAME"                   a copy of another sandbox's files to begin with
//   pids = 4096                         processes and threads at most, where cgroups allow
//
// Pure: nothing is looked up on disk, since Check runs on a FUSE thread and a source may lie in our
// own mount.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "sandbox/template.h"

namespace sbxfs {

struct HostBind {
    std::string source;
    std::string target;
    bool writable = false;

    bool operator==(const HostBind&) const = default;
};

struct LocalSettings {
    bool own_network = false;  // network = "none"
    std::int64_t pids = 4096;
    std::vector<HostBind> binds;
    std::string snapshot;  // whose files it begins with; empty: none
};

// `forbidden`: paths no bind may lie in or contain (the state directory, the mount point). EINVAL
// names the option, an unknown one together with the nearest that exists.
Result<LocalSettings> ReadLocalSettings(const Template& what,
                                        const std::vector<std::string>& forbidden);

// "SRC:DST[:ro|rw]"; a path with a colon in it cannot be bound.
Result<HostBind> ParseBind(std::string_view text);

// Absolute, without empty, "." or ".." components, no NUL; a trailing slash is dropped. EINVAL
// names `what`.
Result<std::string> CleanAbsolutePath(std::string_view path, std::string_view what);
// EINVAL when `source` lies in or contains one of `forbidden`.
Status CheckBindSource(const std::string& source, const std::vector<std::string>& forbidden);

}  // namespace sbxfs
