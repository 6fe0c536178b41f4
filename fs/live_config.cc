#include "fs/live_config.h"

#include <utility>

namespace sbxfs {

LiveConfig::LiveConfig(Config config, Written written, SystemTime since)
    : file_(std::move(config)), written_(std::move(written)), since_(since) {
    const MutexLock lock(mu_);
    config_ = Whole();
}

std::shared_ptr<const Config> LiveConfig::Whole() const {
    auto whole = std::make_shared<Config>(file_);
    for (const auto& [name, what] : written_) {
        if (what) {
            whole->templates[name] = *what;
        } else if (name != whole->default_template) {
            // The one mkdir uses is there, also when another file has made another one the default since.
            whole->templates.erase(name);
        }
    }
    return whole;
}

std::shared_ptr<const Config> LiveConfig::Now() const {
    const MutexLock lock(mu_);
    return config_;
}

SystemTime LiveConfig::since() const {
    const MutexLock lock(mu_);
    return since_;
}

void LiveConfig::Replace(Config config, SystemTime since) {
    std::shared_ptr<const Config> old;  // dies after the lock, or with its last reader
    const MutexLock lock(mu_);
    file_ = std::move(config);
    old = std::exchange(config_, Whole());
    since_ = since;
}

void LiveConfig::Write(const std::string& name, std::optional<Template> what, SystemTime since) {
    std::shared_ptr<const Config> old;
    const MutexLock lock(mu_);
    written_[name] = std::move(what);
    old = std::exchange(config_, Whole());
    since_ = since;
}

}  // namespace sbxfs
