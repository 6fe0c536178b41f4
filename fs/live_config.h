// The configuration in effect: that of the file, with the templates written in the mount over it and those removed
// there left out. A reload (SIGHUP) replaces the file's part, a write to .mount/templates its own; either way there is a
// new whole, so who works with what Now() gave sees one configuration from beginning to end. Owned by MountContext;
// any thread.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/sync.h"
#include "fs/config.h"

namespace sbxfs {

class LiveConfig {
 public:
    // Templates of the mount by name; without one: removed in the mount.
    using Written = std::map<std::string, std::optional<Template>>;
    LiveConfig(Config config, Written written, SystemTime since);
    LiveConfig(const LiveConfig&) = delete;
    LiveConfig& operator=(const LiveConfig&) = delete;

    std::shared_ptr<const Config> Now() const;
    // When it came into effect.
    SystemTime since() const;
    // Sandboxes that are there keep the template they were made from.
    void Replace(Config config, SystemTime since);
    // Written in the mount; without a template: removed there.
    void Write(const std::string& name, std::optional<Template> what, SystemTime since);

 private:
    std::shared_ptr<const Config> Whole() const REQUIRES(mu_);

    mutable Mutex mu_{LockRank::kConfig};
    Config file_ GUARDED_BY(mu_);
    Written written_ GUARDED_BY(mu_);
    std::shared_ptr<const Config> config_ GUARDED_BY(mu_);
    SystemTime since_ GUARDED_BY(mu_);
};

}  // namespace sbxfs
