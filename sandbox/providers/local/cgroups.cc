#include "sandbox/providers/local/cgroups.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "base/files.h"
#include "base/strings.h"

namespace sbxfs {
namespace {

constexpr std::int64_t kPeriodUs = 100'000;
constexpr std::int64_t kMinQuotaUs = 1'000;  // the kernel takes no less

bool Contains(const std::vector<std::string>& words, std::string_view word) {
    return std::find(words.begin(), words.end(), word) != words.end();
}

std::string Parent(const std::string& path) {
    return path.substr(0, path.rfind('/'));
}

Status WriteFile(const std::string& path, const std::string& text) {
    const UniqueFd fd = TRY(OpenFile(path, O_WRONLY));
    if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
        return SystemError(errno, "write " + path);
    }
    return Ok();
}

std::vector<std::string> Words(const std::string& path) {
    const auto text = ReadWholeFile(path, 65536);
    return text ? Split(Trim(*text), ' ') : std::vector<std::string>();
}

// The place in /proc/self/cgroup may be told from a root above the one mounted here (a container
// without a cgroup namespace): what is in front of the mounted root is not ours to see.
std::string Below(const std::string& place, const std::string& mounted_root) {
    if (mounted_root == "/") return place == "/" ? "" : place;
    if (place.starts_with(mounted_root)) return place.substr(mounted_root.size());
    return place == "/" ? "" : place;
}

// Where this process is in a hierarchy: one line of /proc/self/cgroup, "ID:CONTROLLERS:PLACE", with no
// controllers for version 2.
std::optional<std::string> OwnPlace(const Hierarchy& h, std::string_view self_cgroup) {
    for (const std::string& entry : Split(self_cgroup, '\n')) {
        const std::size_t first = entry.find(':');
        const std::size_t second = first == std::string::npos ? first : entry.find(':', first + 1);
        if (second == std::string::npos) continue;
        const std::string names = entry.substr(first + 1, second - first - 1);
        const bool ours =
            h.v2 ? names.empty()
                 : !names.empty() && Contains(h.controllers, Split(names, ',').front());
        if (ours) return entry.substr(second + 1);
    }
    return std::nullopt;
}

// A limit as the files of both versions want it.
struct Knob {
    std::string_view controller;
    std::vector<std::pair<std::string, std::string>> v2;
    std::vector<std::pair<std::string, std::string>> v1;
    std::string shown;
};

std::vector<Knob> KnobsFor(const Limits& limits) {
    std::vector<Knob> knobs;
    if (limits.cpu > 0) {
        const std::string quota =
            std::to_string(std::max(limits.cpu * kPeriodUs / 1024, kMinQuotaUs));
        const std::string period = std::to_string(kPeriodUs);
        knobs.push_back({"cpu",
                         {{"cpu.max", quota + " " + period}},
                         {{"cpu.cfs_period_us", period}, {"cpu.cfs_quota_us", quota}},
                         std::to_string(limits.cpu) + " units"});
    }
    if (limits.memory > 0) {
        const std::string bytes = std::to_string(limits.memory << 20);
        knobs.push_back(
            {"memory",
             {{"memory.max", bytes}, {"?memory.swap.max", "0"}},
             {{"memory.limit_in_bytes", bytes}, {"?memory.memsw.limit_in_bytes", bytes}},
             std::to_string(limits.memory) + " MiB"});
    }
    if (limits.pids > 0) {
        const std::string count = std::to_string(limits.pids);
        knobs.push_back({"pids", {{"pids.max", count}}, {{"pids.max", count}}, count});
    }
    return knobs;
}

// A leading '?' marks a file that not every kernel has.
Status SetKnobs(const std::string& group,
                const std::vector<std::pair<std::string, std::string>>& files) {
    for (const auto& [file, value] : files) {
        const bool optional = file.starts_with('?');
        Status written = WriteFile(group + "/" + (optional ? file.substr(1) : file), value);
        if (!written && !optional) return written;
    }
    return Ok();
}

// The nearest directory from our own group upwards whose children can have `controllers` (version 2
// allows them only below groups without processes of their own, the root apart).
Result<std::string> FindParentV2(const Hierarchy& h, const std::vector<std::string>& controllers) {
    Error why(Errno{EACCES},
              "no control group here may be given limits; run under a systemd unit with "
              "Delegate=yes, or as root");
    for (std::string dir = h.own; dir.size() >= h.mount_point.size(); dir = Parent(dir)) {
        const auto offered = Words(dir + "/cgroup.controllers");
        const auto enabled = Words(dir + "/cgroup.subtree_control");
        std::string missing;
        bool all_offered = true;
        for (const std::string& controller : controllers) {
            all_offered = all_offered && Contains(offered, controller);
            if (!Contains(enabled, controller)) missing += "+" + controller + " ";
        }
        if (!all_offered) {
            why = Error(Errno{EOPNOTSUPP}, "the controllers are not offered in " + dir);
            continue;
        }
        if (::access(dir.c_str(), W_OK) != 0) continue;
        if (!missing.empty() && !WriteFile(dir + "/cgroup.subtree_control", missing)) continue;
        return dir;
    }
    return why;
}

}  // namespace

std::vector<Hierarchy> ParseHierarchies(std::string_view mountinfo, std::string_view self_cgroup) {
    std::vector<Hierarchy> found;
    for (const std::string& line : Split(mountinfo, '\n')) {
        // ID PARENT DEV ROOT MOUNTPOINT OPTIONS [TAGS...] - TYPE SOURCE SUPEROPTIONS (proc(5))
        const std::vector<std::string> fields = Split(line, ' ');
        const auto dash = std::find(fields.begin(), fields.end(), "-");
        if (fields.size() < 6 || fields.end() - dash < 4) continue;
        const std::string& type = *(dash + 1);
        if (type != "cgroup" && type != "cgroup2") continue;
        Hierarchy h;
        h.v2 = type == "cgroup2";
        h.mount_point = fields[4];
        if (!h.v2) h.controllers = Split(*(dash + 3), ',');
        const auto place = OwnPlace(h, self_cgroup);
        if (!place) continue;
        h.own = h.mount_point + Below(*place, fields[3]);
        found.push_back(std::move(h));
    }
    return found;
}

std::vector<Hierarchy> FindHierarchies() {
    const auto mountinfo = ReadWholeFile("/proc/self/mountinfo");
    const auto self = ReadWholeFile("/proc/self/cgroup");
    if (!mountinfo || !self) return {};
    return ParseHierarchies(*mountinfo, *self);
}

CgroupSet CgroupSet::Make(const std::vector<Hierarchy>& hierarchies, const std::string& name,
                          const Limits& limits, const Remember& remember) {
    CgroupSet set;
    const auto say = [&set](const Knob& knob, const Status& status) {
        set.facts_.Set(knob.controller,
                       status ? knob.shown : "not applied: " + status.error().what());
    };
    const std::vector<Knob> knobs = KnobsFor(limits);
    std::vector<std::string> for_v2;
    for (const Knob& knob : knobs) {
        const auto v1 = std::find_if(
            hierarchies.begin(), hierarchies.end(),
            [&](const Hierarchy& h) { return !h.v2 && Contains(h.controllers, knob.controller); });
        if (v1 == hierarchies.end()) {
            for_v2.emplace_back(knob.controller);
            continue;
        }
        const std::string group = v1->own + "/" + name;
        Status status = set.Open(group, knob.controller, remember);
        say(knob, status ? SetKnobs(group, knob.v1) : status);
    }
    if (for_v2.empty()) return set;
    const auto v2 = std::find_if(hierarchies.begin(), hierarchies.end(),
                                 [](const Hierarchy& h) { return h.v2; });
    const Result<std::string> parent =
        v2 == hierarchies.end() ? Error(Errno{EOPNOTSUPP}, "no control groups are mounted here")
                                : FindParentV2(*v2, for_v2);
    for (const Knob& knob : knobs) {
        if (!Contains(for_v2, knob.controller)) continue;
        Status status = parent ? set.Open(*parent + "/" + name, knob.controller, remember)
                               : Status(parent.error());
        say(knob, status ? SetKnobs(*parent + "/" + name, knob.v2) : status);
    }
    return set;
}

Status CgroupSet::Open(const std::string& directory, std::string_view controller,
                       const Remember& remember) {
    for (Group& group : groups_) {
        if (group.directory != directory) continue;
        group.controllers.emplace_back(controller);
        return Ok();
    }
    (void)TRY(remember(directory));
    if (::mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST) {
        return SystemError(errno, "no right to make the control group " + directory,
                           Blame::kCaller);
    }
    UniqueFd members = TRY(OpenFile(directory + "/cgroup.procs", O_WRONLY));
    groups_.push_back({directory, std::move(members), {std::string(controller)}});
    return Ok();
}

std::map<std::string, std::string> CgroupSet::Join() const {
    std::map<std::string, std::string> failed;
    for (const Group& group : groups_) {
        // The descriptor was opened by the maker; "0" is the writer itself.
        if (::write(group.members.get(), "0", 1) == 1) continue;
        failed[group.directory] =
            SystemError(errno, "moving the sandbox into " + group.directory).what();
    }
    return failed;
}

void CgroupSet::NotJoined(const std::map<std::string, std::string>& groups) {
    for (const Group& group : groups_) {
        const auto failed = groups.find(group.directory);
        if (failed == groups.end()) continue;
        for (const std::string& controller : group.controllers) {
            facts_.Set(controller, "not applied: " + failed->second);
        }
    }
}

Status RemoveCgroup(const std::string& directory, int limit_ms) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(limit_ms);
    while (::rmdir(directory.c_str()) != 0) {
        if (errno == ENOENT) return Ok();
        if (errno == EACCES || errno == EPERM) {
            // Somebody else's of the same name, which was in our way and never ours.
            struct stat found {};
            if (::stat(directory.c_str(), &found) == 0 && found.st_uid != ::geteuid()) return Ok();
            return SystemError(EACCES, "removing " + directory);
        }
        if (errno != EBUSY || std::chrono::steady_clock::now() >= deadline) {
            return SystemError(errno, "removing " + directory);
        }
        // The dead leave their group a moment after they are reaped; there is nothing to wait on in
        // version 1.
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return Ok();
}

std::int64_t OutOfMemoryKills(const std::string& directory) {
    for (const char* file : {"/memory.events", "/memory.oom_control"}) {
        const auto text = ReadWholeFile(directory + file, 4096);
        if (!text) continue;
        for (const std::string& line : Split(*text, '\n')) {
            if (!line.starts_with("oom_kill ")) continue;
            return ParseNumber<std::int64_t>(std::string_view(line).substr(9)).value_or(0);
        }
    }
    return 0;
}

}  // namespace sbxfs
