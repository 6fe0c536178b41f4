// Provider `local`: a sandbox is a set of namespaces on this machine with an sshd of its own behind
// a private Unix socket (docs/LOCAL.md). The daemon does none of the work: every launch and destroy
// is a helper process (helper.h) in a session of its own, and both it and the sandbox outlive a
// kill -9 of the daemon; what was going on is found again through the box (box.h).
//
// Any thread may call and destroy it; the work and all state are the loop's, which outlives it. Callbacks still
// waiting when it dies are dropped unrun; helpers go on.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "sandbox/io_loop.h"
#include "sandbox/provider.h"
#include "sandbox/providers/local/launch_order.h"
#include "sandbox/snapshotter.h"

namespace sbxfs {

struct LocalOptions {
    std::string state_dir;  // absolute; boxes live below it, as long a path as it may be
    std::vector<std::string>
        forbidden;  // what no sandbox may be shown besides the state directory: the mount point
    std::vector<std::string> helper = {"/proc/self/exe"};  // argv before `local-helper launch`
    std::size_t launches_at_once = 8;  // more wait for their turn; a launch is mostly system calls
    std::size_t destroys_at_once = 4;
    std::size_t copies_at_once = 2;  // snapshots being made or removed
    std::string init_program;        // tests; empty: the carried supervisor
};

class LocalProvider final : public Provider, public Snapshotter {
 public:
    // Makes <state_dir>/boxes. Sandboxes are refused later, by Check, when it lies where they would see it.
    static Result<std::unique_ptr<LocalProvider>> Open(IoLoop& loop, LocalOptions options);
    LocalProvider(const LocalProvider&) = delete;
    LocalProvider& operator=(const LocalProvider&) = delete;
    ~LocalProvider() override;

    Status Check(const Template& what) override;
    // EHOSTDOWN when a launch with this token succeeded before and that sandbox has ended;
    // ECANCELED when it was destroyed.
    void Launch(const LaunchSpec& spec, LaunchPhase phase, LaunchDone done) override;
    void Probe(const std::string& token, const std::string& id, HealthDone done) override;
    void Destroy(const std::string& token, const std::string& id, Done done) override;
    // Its processes end; `layer/` stays. EHOSTDOWN from Start when that is gone.
    void Stop(const std::string& token, const std::string& id, Done done) override;
    void Start(const LaunchSpec& spec, LaunchPhase phase, LaunchDone done) override;
    // Copies `layer/`, as files of this machine (snapshots.h).
    void Snapshot(const std::string& id, SnapshotFacts facts, Done done) override;
    std::vector<SnapshotFacts> Snapshots() const override;
    void RemoveSnapshot(const std::string& name, Done done) override;
    std::vector<std::string> Verbs() const override { return {"stop", "start", "snapshot"}; }
    Snapshotter* snapshotter() override { return this; }
    bool Paid() const override { return false; }

 private:
    class Work;
    LocalProvider(IoLoop& loop, LocalOptions options);
    Status CheckSettings(const Template& what);
    Result<LaunchOrder> OrderFor(const LaunchSpec& spec);

    IoLoop& loop_;
    const LocalOptions options_;
    std::shared_ptr<Work> work_;  // posted jobs hold it weakly
};

}  // namespace sbxfs
