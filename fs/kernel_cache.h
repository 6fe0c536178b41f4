// What the kernel holds of the sandboxes' files and serves without asking us: names and attributes, for
// at most a second and only while the sandbox is quiet, and pages. Owned by MountContext; any thread.
//
// A grant is written down before the answer that carries it leaves. Revoke() closes the sandbox first,
// so that no further grant is given, then has the kernel forget what was granted in the last second. An
// answer that was on its way meanwhile does no harm: the kernel compares it with the epoch and the
// attribute version of the moment the request was made. Not so the entries of READDIRPLUS: their names, and
// attributes of files new to the kernel, are never lent.
//
// Names are granted only where one notification takes all of them back (FUSE_NOTIFY_INC_EPOCH, Linux
// 6.16). The older way, inval_entry for each, waits for the lock of the directory, which somebody may
// hold who waits for the sandbox: a command would start seconds late.
//
// Pages are dropped on threads of their own, one for each sandbox that has some to drop (PageLanes): they
// may be locked by a READ that waits for a sandbox that is not answering, and nothing else may wait
// behind that, neither leases nor another sandbox's commands.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "base/batch_thread.h"
#include "base/clock.h"
#include "base/sync.h"
#include "fs/page_lanes.h"
#include "fs/types.h"
#include "sandbox/mount_caches.h"

namespace sbxfs {

// The notifications, as libfuse sends them. Called from the threads here, with no lock held; may block
// on the kernel's locks. What the kernel does not know is forgotten already.
class KernelNotifier {
 public:
    KernelNotifier() = default;
    KernelNotifier(const KernelNotifier&) = delete;
    KernelNotifier& operator=(const KernelNotifier&) = delete;
    virtual ~KernelNotifier() = default;
    // Every name of the mount. False when this kernel has no such thing.
    virtual bool ForgetNames() = 0;
    virtual void ForgetAttributes(Ino ino) = 0;
    // With its attributes.
    virtual void ForgetPages(Ino ino) = 0;
};

class KernelCache final : public MountCaches {
 public:
    static constexpr Duration kLease = std::chrono::seconds(1);

    explicit KernelCache(Clock& clock) : clock_(clock) {}
    ~KernelCache() override { Stop(); }

    // Before the first request, once: finds out what the kernel offers. Without it nothing is granted.
    void Connect(std::unique_ptr<KernelNotifier> notifier);
    // Before the session ends. Waits for what is on its way; later jobs are dropped.
    void Stop();

    Lease Grant(Generation box, Ino ino);
    // The attributes of one file: it has changed behind the kernel's back, by another of its names.
    // `done` runs on any thread.
    void Recall(Generation box, Ino ino, Job done);
    // A file of this sandbox was opened, or closed for the last time of as many.
    void Opened(Generation box, Ino ino);
    void Released(Generation box, Ino ino);
    std::vector<Ino> OpenFiles(Generation box);
    // Of these files of the sandbox, as DropPages().
    void DropPagesOf(Generation box, std::vector<Ino> files, Job done);

    void Allow(Generation box) override;
    void Revoke(Generation box, Job done) override;
    void DropPages(Generation box, Job done) override;

 private:
    struct Box {
        bool open = false;
        SteadyTime named{};  // when a name was last granted
        std::map<Ino, SteadyTime> attributes;
        SteadyTime pruned{};  // of what has run out
        std::map<Ino, std::uint64_t> files;
    };
    static void RunAll(std::vector<Job>& jobs);

    Clock& clock_;
    Mutex mu_{LockRank::kKernelCache};
    std::map<Generation, Box> boxes_ GUARDED_BY(mu_);
    std::shared_ptr<KernelNotifier> notifier_ GUARDED_BY(mu_);
    bool names_ GUARDED_BY(mu_) = false;  // ForgetNames() works

    BatchThread<Job> grants_{"kernel-grants", LockRank::kKernelQueue, &RunAll};
    PageLanes pages_;
};

}  // namespace sbxfs
