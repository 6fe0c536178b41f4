// Limits of one sandbox by control groups: version 2 where it has the controller, else version 1.
// The group is made below this process's own group or the nearest ancestor that may have children
// with limits, so that what limits us limits the sandboxes too. Without rights to any, nothing is
// limited and the facts say why.
//
// Used by the helper: Make before the sandbox's first process, which Joins before it starts
// anything; Remove after the last has ended.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "base/unique_function.h"

namespace sbxfs {

struct Limits {
    std::int64_t cpu = 0;     // 1024 = one core; 0: none
    std::int64_t memory = 0;  // MiB; 0: none
    std::int64_t pids = 0;    // 0: none
};

// One mounted hierarchy and our place in it.
struct Hierarchy {
    bool v2 = false;
    std::vector<std::string> controllers;  // v1: of this mount; v2: empty, asked per directory
    std::string mount_point;
    std::string own;  // the directory of our own group, below mount_point
};
// Pure: from the texts of /proc/self/mountinfo and /proc/self/cgroup.
std::vector<Hierarchy> ParseHierarchies(std::string_view mountinfo, std::string_view self_cgroup);
std::vector<Hierarchy> FindHierarchies();

class CgroupSet {
 public:
    // Makes the groups called `name` and sets the limits. Calls `remember` with every directory
    // before it is made, so that a crash leaves none that nobody knows.
    using Remember = UniqueFunction<Status(const std::string& directory)>;
    static CgroupSet Make(const std::vector<Hierarchy>& hierarchies, const std::string& name,
                          const Limits& limits, const Remember& remember);

    // Puts the calling process in, which on version 1 takes 10 ms of waiting. Returns the groups
    // that did not take it and why: an ordinary user may make a group and still not be let out of
    // the present one.
    std::map<std::string, std::string> Join() const;
    // Says in the facts what Join(), in another process, returned.
    void NotJoined(const std::map<std::string, std::string>& groups);
    // "memory": "512 MiB" or "not applied: why", for each limit asked for.
    const Json& facts() const { return facts_; }

 private:
    struct Group {
        std::string directory;
        UniqueFd members;                      // cgroup.procs
        std::vector<std::string> controllers;  // of ours
    };
    Status Open(const std::string& directory, std::string_view controller,
                const Remember& remember);

    std::vector<Group> groups_;
    Json facts_ = Json::Object();
};

// rmdir, again while the kernel still counts the dead; success when there is no such directory.
Status RemoveCgroup(const std::string& directory, int limit_ms);

// How often the kernel killed something in this group for want of memory; 0 when it does not say.
std::int64_t OutOfMemoryKills(const std::string& directory);

}  // namespace sbxfs
