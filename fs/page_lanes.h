// Where pages the kernel has of open files are dropped: a lane for each sandbox, so that one whose pages
// are locked by a READ it does not answer holds up nobody else. A lane's thread lives while there is
// work in it. Owned by KernelCache; any thread.
#pragma once

#include <map>
#include <thread>
#include <vector>

#include "base/sync.h"
#include "base/loop.h"
#include "sandbox/names.h"

namespace sbxfs {

class PageLanes {
 public:
    PageLanes() = default;
    ~PageLanes() { Stop(); }
    PageLanes(const PageLanes&) = delete;
    PageLanes& operator=(const PageLanes&) = delete;

    // Jobs of one sandbox run in the order added, with no lock held; they may block on the kernel's.
    // Dropped unrun once stopped.
    void Add(Generation box, Job job);
    // Waits for what was added. Idempotent; not from a job.
    void Stop();

 private:
    struct Lane {
        std::vector<Job> jobs;
        std::thread thread;
    };
    void Run(Generation box) noexcept;

    Mutex mu_{LockRank::kKernelQueue};
    CondVar idle_;
    std::map<Generation, Lane> lanes_ GUARDED_BY(mu_);
    std::vector<std::thread> ended_ GUARDED_BY(mu_);  // to be joined
    bool stopping_ GUARDED_BY(mu_) = false;
};

}  // namespace sbxfs
