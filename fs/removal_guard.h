// Keeps programs that remove a tree entry by entry from destroying a sandbox at the end of their walk.
// `find box -delete` and shutil.rmtree(box, ignore_errors=True) go on after each refusal and finish with
// rmdir(2) of the directory itself, the very call that destroys a sandbox when somebody means it. So a
// process that has just been refused the removal of something below a directory does not get to remove
// that directory (contract 6). Mount tests: Walkers.*destroys_nothing_and_says_how.
//
// Owned by MountContext; any thread.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>

#include "base/clock.h"
#include "base/sync.h"

namespace sbxfs {

class RemovalGuard {
 public:
    explicit RemovalGuard(Clock& clock) : clock_(clock) {}
    RemovalGuard(const RemovalGuard&) = delete;
    RemovalGuard& operator=(const RemovalGuard&) = delete;

    // The thread `caller` was refused the removal of `path`. Negative: not known, nothing is noted.
    void Refused(pid_t caller, std::string path);
    // Whether a removal of the directory `path` by this thread's process would end such a walk.
    bool EndsAWalk(pid_t caller, const std::string& path) const;

 private:
    struct Walk {
        std::string path;  // the newest that was refused: a walk is depth first, so one is enough
        SteadyTime time;
    };
    Clock& clock_;
    mutable Mutex mu_{LockRank::kRefusals};
    std::map<pid_t, Walk> walks_ GUARDED_BY(mu_);  // by process
};

}  // namespace sbxfs
