// The -o options of `sbxfs mount` (contract 7), as given by hand, by fstab or by mount(8). Pure but for the
// look-up of user and group names. Called by main before threads start.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace sbxfs {

// Whose numbers files under fs/ show.
enum class IdMap {
    kMount,   // those of the mount (uid=, gid=), whoever owns them in the sandbox
    kRemote,  // idmap=none: the sandbox's own, and chown(2) is passed on
};

enum class OnUnmount { kKeep, kDestroy };

struct MountOptions {
    std::string config;
    std::string state_dir;
    Duration op_timeout = std::chrono::seconds(30);
    std::optional<uid_t> uid;  // absent: who mounts
    std::optional<gid_t> gid;
    mode_t umask = 077;  // of the control tree; files under fs/ have the sandbox's modes
    IdMap idmap = IdMap::kMount;
    OnUnmount on_unmount = OnUnmount::kKeep;
    bool writeback = true;  // what docs/WRITE_BEHIND.md tells
    bool read_only = false;
    bool exec = false;
    bool allow_other = false;

    // For mount(2): ro, allow_other, noexec.
    std::vector<std::string> ForKernel() const;
    // All that is not as it is by default, as -o takes it.
    std::string Text() const;
};

// `lists` are OPT[,OPT] each. EINVAL naming a bad value or an unknown option and the nearest known one;
// unknown ones pass when `sloppy`. What fstab and mount(8) say for themselves passes always.
Result<MountOptions> ParseMountOptions(const std::vector<std::string>& lists, bool sloppy);

// One option of the help: how it is written, and what it does.
struct OptionHelp {
    std::string_view form;
    std::string_view text;
};
const std::vector<OptionHelp>& MountOptionsHelp();

}  // namespace sbxfs
