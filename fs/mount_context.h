// What all nodes of one mount share. Owned by FileSystem, outlives every node. The members lock for
// themselves; tree_mu guards where nodes are (Node::parent_, name_).
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "base/batch_thread.h"
#include "base/clock.h"
#include "base/sync.h"
#include "fs/handle_table.h"
#include "fs/inode_table.h"
#include "fs/kernel_cache.h"
#include "fs/live_config.h"
#include "fs/mount_options.h"
#include "fs/parking_lot.h"
#include "fs/refusals.h"
#include "fs/removal_guard.h"
#include "sandbox/sandboxes.h"

namespace sbxfs {

class Snapshotter;

// What the file system needs to know of its mount: fixed as long as it is there.
struct MountSettings {
    uid_t uid = 0;  // files show as owned by
    gid_t gid = 0;
    mode_t umask = 077;  // what others may of that which the owner may, in the control tree
    IdMap idmap = IdMap::kMount;
    std::string options;  // as -o takes them
    std::string state_dir;
    std::string log_file;  // empty: stderr
    std::string mountpoint;
    std::string program;                      // of sbxfs, for ssh(1) to start; empty: found in PATH
    std::function<std::string()> recent_log;  // for .mount/log; may be empty
    // What runs and costs without being in the journal, for .mount/info.json; may be empty.
    std::function<std::vector<Stranger>()> strangers;
    // Of the providers that can keep copies, for .mount/snapshots. They outlive the mount.
    std::vector<Snapshotter*> snapshotters;
    // What .mount/templates was given before, and where it is kept; without a template: removed.
    LiveConfig::Written written_templates;
    std::function<void(const std::string& name, const std::optional<Template>& what, Done done)>
        keep_template;
    Duration op_timeout = std::chrono::seconds(30);
    // The administrator's fs.fuse.max_request_timeout: a request older than it ends the whole mount,
    // so no wait may be longer. Zero: none.
    Duration longest_wait{0};
};

struct MountContext {
    MountContext(Sandboxes& boxes, Loop& timers, Clock& time, MountSettings s, Config c)
        : sandboxes(boxes),
          timer_loop(timers),
          clock(time),
          settings(std::move(s)),
          mounted(time.System()),
          config(std::move(c), settings.written_templates, mounted),
          refusals(time),
          removals(time),
          lot(time),
          kernel_cache(time) {}

    Sandboxes& sandboxes;
    Loop& timer_loop;  // for waits with a limit
    Clock& clock;
    const MountSettings settings;
    const SystemTime mounted;
    LiveConfig config;

    Mutex tree_mu{LockRank::kTree};
    InodeTable inodes;
    HandleTable handles;
    Refusals refusals;
    RemovalGuard removals;
    ParkingLot lot;
    // Notifications to the kernel, which may block on its locks. Stopped before the session it speaks through
    // ends; jobs added later are dropped.
    BatchThread<Job> kernel{"kernel", LockRank::kKernelQueue, [](std::vector<Job>& jobs) {
                                for (const Job& job : jobs)
                                    job();
                            }};
    KernelCache kernel_cache;
};

}  // namespace sbxfs
