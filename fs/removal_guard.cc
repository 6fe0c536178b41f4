#include "fs/removal_guard.h"

#include <utility>

#include "fs/caller.h"

namespace sbxfs {
namespace {

// A walk goes on at once. Who was refused and asks for the whole directory later means it.
constexpr Duration kWalkPause = std::chrono::seconds(2);
constexpr std::size_t kMaxWalks = 256;

}  // namespace

void RemovalGuard::Refused(pid_t caller, std::string path) {
    if (caller < 0) return;
    const pid_t process = LookUpCaller(caller).group;
    const SteadyTime now = clock_.Steady();
    const MutexLock lock(mu_);
    if (walks_.size() >= kMaxWalks) {
        std::erase_if(walks_,
                      [now](const auto& walk) { return now - walk.second.time > kWalkPause; });
    }
    if (walks_.size() >= kMaxWalks && !walks_.contains(process)) walks_.erase(walks_.begin());
    walks_[process] = {std::move(path), now};
}

bool RemovalGuard::EndsAWalk(pid_t caller, const std::string& path) const {
    if (caller < 0) return false;
    const pid_t process = LookUpCaller(caller).group;
    const SteadyTime now = clock_.Steady();
    const MutexLock lock(mu_);
    const auto it = walks_.find(process);
    return it != walks_.end() && now - it->second.time <= kWalkPause &&
           it->second.path.starts_with(path + "/");
}

}  // namespace sbxfs
