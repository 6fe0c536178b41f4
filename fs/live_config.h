// The configuration in effect. A reload (SIGHUP) replaces it whole, so who works with what Now() gave sees one
// configuration from beginning to end. Owned by MountContext; any thread.
#pragma once

#include <memory>

#include "base/clock.h"
#include "base/sync.h"
#include "fs/config.h"

namespace sbxfs {

class LiveConfig {
 public:
    LiveConfig(Config config, SystemTime since)
        : config_(std::make_shared<const Config>(std::move(config))), since_(since) {}
    LiveConfig(const LiveConfig&) = delete;
    LiveConfig& operator=(const LiveConfig&) = delete;

    std::shared_ptr<const Config> Now() const;
    // When it came into effect.
    SystemTime since() const;
    // Sandboxes that are there keep the template they were made from.
    void Replace(Config config, SystemTime since);

 private:
    mutable Mutex mu_{LockRank::kConfig};
    std::shared_ptr<const Config> config_ GUARDED_BY(mu_);
    SystemTime since_ GUARDED_BY(mu_);
};

}  // namespace sbxfs
