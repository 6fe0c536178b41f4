// "Something changed", told once to whoever asked: what poll(2) and `follow` wait on. Keyed, so that the
// watchers of one event hear nothing of the others. Owned by Sandbox and Commands; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "base/sync.h"
#include "base/loop.h"

namespace sbxfs {

class ChangeSignal {
 public:
    ChangeSignal() = default;
    ChangeSignal(const ChangeSignal&) = delete;
    ChangeSignal& operator=(const ChangeSignal&) = delete;

    // `job` runs at the next Fire(key), on the thread that fires. Watch first and look afterwards: what
    // changes in between is told.
    std::uint64_t Watch(std::uint64_t key, Job job) {
        const MutexLock lock(mu_);
        const std::uint64_t id = next_++;
        watchers_[key].emplace_back(id, std::move(job));
        return id;
    }

    void Unwatch(std::uint64_t key, std::uint64_t id) {
        Job doomed;  // dies after the lock: it may own a reply
        const MutexLock lock(mu_);
        const auto it = watchers_.find(key);
        if (it == watchers_.end()) return;
        for (auto& [known, job] : it->second) {
            if (known != id) continue;
            std::swap(doomed, job);
            std::erase_if(it->second, [id](const auto& watcher) { return watcher.first == id; });
            break;
        }
        if (it->second.empty()) watchers_.erase(it);
    }

    // Call without locks held.
    void Fire(std::uint64_t key) {
        std::vector<std::pair<std::uint64_t, Job>> told;
        {
            const MutexLock lock(mu_);
            const auto it = watchers_.find(key);
            if (it == watchers_.end()) return;
            told = std::move(it->second);
            watchers_.erase(it);
        }
        for (auto& [id, job] : told)
            job();
    }

    // For those whose key will not fire again.
    void FireAll() {
        std::map<std::uint64_t, std::vector<std::pair<std::uint64_t, Job>>> told;
        {
            const MutexLock lock(mu_);
            told.swap(watchers_);
        }
        for (auto& [key, jobs] : told) {
            for (auto& [id, job] : jobs)
                job();
        }
    }

 private:
    Mutex mu_{LockRank::kWatchers};
    std::map<std::uint64_t, std::vector<std::pair<std::uint64_t, Job>>> watchers_ GUARDED_BY(mu_);
    std::uint64_t next_ GUARDED_BY(mu_) = 1;
};

}  // namespace sbxfs
