#include "fs/mount_options.h"

#include <errno.h>

#include <algorithm>

#include "base/strings.h"

namespace sbxfs {
namespace {

// What fstab and mount(8) add for themselves.
bool IsGeneric(std::string_view option) {
    static const std::vector<std::string_view> kWords = {
        "rw",     "auto",  "noauto", "defaults", "_netdev", "nofail", "user",    "users",
        "nouser", "group", "owner",  "noowner",  "async",   "atime",  "noatime", "relatime",
        "dev",    "nodev", "suid",   "nosuid",   "noexec",  "comment"};
    return std::find(kWords.begin(), kWords.end(), option) != kWords.end() ||
           option.starts_with("x-") || option.starts_with("comment=");
}

const std::vector<std::string_view> kOurs = {"ro",     "exec",      "allow_other",
                                             "config", "state_dir", "op_timeout"};

}  // namespace

Result<MountOptions> ParseMountOptions(const std::vector<std::string>& lists, bool sloppy) {
    MountOptions options;
    bool exec = false;
    for (const std::string& list : lists) {
        for (const std::string& option : Split(list, ',')) {
            const std::size_t equals = option.find('=');
            const std::string key = option.substr(0, equals);
            const std::string value = equals == std::string::npos ? "" : option.substr(equals + 1);
            if (option.empty() || IsGeneric(option)) continue;
            if (option == "exec") {
                exec = true;
            } else if (option == "ro" || option == "allow_other") {
                options.kernel.push_back(option);
            } else if (key == "config" && !value.empty()) {
                options.config = value;
            } else if (key == "state_dir" && !value.empty()) {
                options.state_dir = value;
            } else if (key == "op_timeout") {
                const auto seconds = ParseSeconds(value);
                if (!seconds || *seconds == 0) {
                    return Error(Errno{EINVAL}, "op_timeout must be a duration like 30s");
                }
                options.op_timeout = std::chrono::seconds(*seconds);
            } else if (!sloppy) {
                const std::string_view nearest = Nearest(key, kOurs);
                return Error(
                    Errno{EINVAL},
                    "unknown mount option '" + Printable(option, 64) + "'" +
                        (nearest.empty() ? "" : "; did you mean '" + std::string(nearest) + "'?"));
            }
        }
    }
    // Running a sandbox's files on this machine is the user's choice.
    if (!exec) options.kernel.emplace_back("noexec");
    return options;
}

std::string MountOptionsHelp() {
    return "ro               nothing can be changed\n"
           "exec             programs of a sandbox may be run on this machine (default: noexec)\n"
           "allow_other      other users may use the mount (needs user_allow_other in "
           "/etc/fuse.conf)\n"
           "config=FILE      configuration file\n"
           "state_dir=DIR    where this mount remembers its sandboxes (default: one per mount "
           "point)\n"
           "op_timeout=TIME  how long a request may wait for a sandbox (default 30s)\n";
}

}  // namespace sbxfs
