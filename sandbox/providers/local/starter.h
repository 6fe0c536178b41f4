// Starts the first process of a sandbox: a child that joins the control groups, makes its
// namespaces and view, and becomes bubblewrap, which becomes PID 1. Until Go() that process has run
// nothing of the sandbox, and it ends by itself when whoever holds this object is killed: it waits
// on a pipe nobody else can write to. So at no moment is there a process that is neither recorded
// nor about to end.
//
// bubblewrap's own first half must not be killed while it starts the second (that one would wait
// for ever): every way out of here lets it end by itself, or kills the second.
//
// Used once, by the launch helper. Guarded by LocalProvider.KillingTheHelperAnywhereLeavesNothing.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "sandbox/providers/local/bwrap_args.h"
#include "sandbox/providers/local/cgroups.h"
#include "sandbox/providers/local/process_record.h"
#include "sandbox/providers/local/root_view.h"

namespace sbxfs {

struct StartPlan {
    std::string bwrap;  // the program
    ViewPlan view;
    BwrapPlan options;              // info_fd is filled in here
    std::vector<std::string> sshd;  // argv for each connection
    std::int64_t lifetime_ms = 0;
    std::int64_t pids = 0;  // processes of one user id, 0: no limit
    int listen_fd = -1;
    int note_fd = -1;
    int alive_fd = -1;
};

class Starter {
 public:
    Starter() = default;
    Starter(const Starter&) = delete;
    Starter& operator=(const Starter&) = delete;
    // Ends what was started unless Release() was called.
    ~Starter();

    // Forks. The child joins the groups, which takes a while, then waits for Mount().
    Status Fork(const StartPlan& plan, const CgroupSet& groups);
    // The layer is ready: the child mounts and becomes bubblewrap. Returns once that is done.
    struct Mounted {
        std::vector<ShownTree> trees;
        std::map<std::string, std::string> not_joined;  // CgroupSet::NotJoined
        std::string abstract_sockets;  // why the machine's are not kept away; empty: they are
    };
    Result<Mounted> Mount();
    // The init, waiting for Go().
    Result<ProcessRecord> AwaitInit();
    Status Go();
    // True when bubblewrap has ended, which it does only when its init has.
    bool Ended();
    // The init runs on; bubblewrap's outer half, which only waits, is ended.
    void Release();

    // Becomes readable when bubblewrap ends.
    int watch() const { return bwrap_.get(); }
    // What bubblewrap and the init have complained about so far.
    std::string Complaints();

 private:
    [[noreturn]] void RunChild(const StartPlan& plan, const CgroupSet& groups);
    Status BecomeBwrap(const StartPlan& plan, Json report);
    std::vector<std::string> InitArgv(const StartPlan& plan) const;

    pid_t child_ = -1;
    UniqueFd bwrap_;          // pidfd of the child
    UniqueFd init_;           // pidfd
    UniqueFd gate_;           // write end: Mount()
    UniqueFd gate_inside_;    // read end
    UniqueFd report_;         // read end: what Mounted says, or an error
    UniqueFd report_inside_;  // write end
    UniqueFd go_;             // write end
    UniqueFd go_inside_;      // read end, for the init
    UniqueFd info_;           // read end
    UniqueFd info_inside_;    // write end
    UniqueFd stderr_;         // read end
    UniqueFd stderr_inside_;  // write end
    std::string complaints_;
};

}  // namespace sbxfs
