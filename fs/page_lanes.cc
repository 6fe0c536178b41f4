#include "fs/page_lanes.h"

#include <pthread.h>
#include <signal.h>

#include <utility>

namespace sbxfs {

void PageLanes::Add(Generation box, Job job) {
    std::vector<std::thread> ended;
    {
        const MutexLock lock(mu_);
        if (stopping_) return;
        ended.swap(ended_);
        const auto [it, is_new] = lanes_.try_emplace(box);
        it->second.jobs.push_back(std::move(job));
        // Its first act is to take the lock held here.
        if (is_new) it->second.thread = std::thread([this, box] { Run(box); });
    }
    for (std::thread& thread : ended)
        thread.join();
}

void PageLanes::Run(Generation box) noexcept {
    (void)::pthread_setname_np(::pthread_self(), "kernel-pages");
    sigset_t all;
    (void)::sigfillset(&all);
    (void)::pthread_sigmask(SIG_BLOCK, &all, nullptr);  // main takes signals
    for (;;) {
        std::vector<Job> jobs;
        {
            const MutexLock lock(mu_);
            const auto it = lanes_.find(box);
            if (it->second.jobs.empty()) {
                ended_.push_back(std::move(it->second.thread));
                lanes_.erase(it);
                if (lanes_.empty()) idle_.NotifyAll();
                return;
            }
            jobs.swap(it->second.jobs);
        }
        for (const Job& job : jobs)
            job();
    }
}

void PageLanes::Stop() {
    std::vector<std::thread> ended;
    {
        const MutexLock lock(mu_);
        stopping_ = true;
        while (!lanes_.empty())
            idle_.Wait(mu_);
        ended.swap(ended_);
    }
    for (std::thread& thread : ended)
        thread.join();
}

}  // namespace sbxfs
