#include "sandbox/output_budget.h"

#include <utility>

namespace sbxfs {

void OutputBudget::Drop(const Key& key) {
    const auto it = kept_.find(key);
    if (it == kept_.end()) return;
    used_ -= it->second.bytes;
    if (it->second.finished_ms != 0)
        finished_.erase({it->second.finished_ms, key.first, key.second});
    kept_.erase(it);
}

void OutputBudget::Keeps(Generation generation, EventNumber n, std::int64_t finished_ms,
                         std::uint64_t bytes, const std::weak_ptr<OutputOwner>& owner) {
    std::vector<std::pair<std::weak_ptr<OutputOwner>, EventNumber>> given_up;
    {
        const MutexLock lock(mu_);
        const Key key{generation, n};
        Drop(key);
        if (bytes == 0) return;
        used_ += bytes;
        kept_[key] = Kept{bytes, finished_ms, owner};
        if (finished_ms != 0) finished_[{finished_ms, generation, n}] = key;
        while (used_ > limit_ && !finished_.empty()) {
            const Key oldest = finished_.begin()->second;
            given_up.emplace_back(kept_.at(oldest).owner, oldest.second);
            Drop(oldest);
        }
    }
    for (const auto& [weak, event] : given_up) {
        if (const auto keeper = weak.lock()) keeper->GiveUpOutput(event);
    }
}

void OutputBudget::Forget(Generation generation, EventNumber n) {
    const MutexLock lock(mu_);
    Drop({generation, n});
}

std::uint64_t OutputBudget::used() const {
    const MutexLock lock(mu_);
    return used_;
}

}  // namespace sbxfs
