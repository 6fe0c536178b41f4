#include "sandbox/space_memory.h"

namespace sbxfs {
namespace {

// Programs ask about a handful of directories; a walk that asks about each must not fill memory.
constexpr std::size_t kMostPaths = 256;

}  // namespace

std::optional<SpaceMemory::Known> SpaceMemory::Find(const std::string& path) const {
    const MutexLock lock(mu_);
    const auto it = entries_.find(path);
    const bool asking = it != entries_.end() && it->second.questions > 0;
    if (it != entries_.end() && it->second.space)
        return Known{*it->second.space, clock_.Steady() - it->second.seen < kFresh, asking};
    if (!last_) return std::nullopt;
    return Known{*last_, false, asking};
}

void SpaceMemory::Ask(const std::string& path) {
    const MutexLock lock(mu_);
    if (entries_.size() >= kMostPaths && !entries_.contains(path))
        std::erase_if(entries_, [](const auto& entry) { return entry.second.questions == 0; });
    ++entries_[path].questions;
}

void SpaceMemory::Answered(const std::string& path, const Result<RemoteStatfs>& space) {
    const MutexLock lock(mu_);
    Entry& entry = entries_[path];
    --entry.questions;
    if (space) {
        entry.space = last_ = *space;
        entry.seen = clock_.Steady();
    } else if (!entry.space && entry.questions == 0) {
        entries_.erase(path);
    }
}

}  // namespace sbxfs
