#include "fs/live_config.h"

#include <utility>

namespace sbxfs {

std::shared_ptr<const Config> LiveConfig::Now() const {
    const MutexLock lock(mu_);
    return config_;
}

SystemTime LiveConfig::since() const {
    const MutexLock lock(mu_);
    return since_;
}

void LiveConfig::Replace(Config config, SystemTime since) {
    auto next = std::make_shared<const Config>(std::move(config));
    const MutexLock lock(mu_);
    config_.swap(next);  // the old one dies after the lock, or with its last reader
    since_ = since;
}

}  // namespace sbxfs
