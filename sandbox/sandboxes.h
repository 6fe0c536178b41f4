// The registry: every sandbox of a mount by name and by generation, also those being destroyed and,
// for seven days, those gone. Made and started by the daemon after the journal was opened; any
// thread may ask. Owns the sandboxes.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/loop.h"
#include "base/result.h"
#include "base/sync.h"
#include "sandbox/names.h"
#include "sandbox/provider.h"
#include "sandbox/sandbox.h"
#include "sandbox/template.h"

namespace sbxfs {

using SandboxPtr = std::shared_ptr<Sandbox>;

class Sandboxes {
 public:
    static constexpr std::size_t kDefaultLimit = 1000;
    struct Config {
        std::size_t limit = kDefaultLimit;  // sandboxes that are not gone
        Duration history = std::chrono::hours(7 * 24);
    };
    // Finds the provider for a template, or says why there is none. Providers outlive the registry.
    using FindProvider = std::function<Result<Provider*>(const Template&)>;
    // Hands out the loops, one per sandbox, evenly.
    using NextLoop = std::function<Loop&()>;

    Sandboxes(SandboxServices services, Config config, FindProvider find_provider,
              NextLoop next_loop);
    ~Sandboxes();
    Sandboxes(const Sandboxes&) = delete;
    Sandboxes& operator=(const Sandboxes&) = delete;

    // Reads the journal back and goes on with everything half done. Before other threads ask, after
    // Store is open and before its thread starts; then Start().
    Status Load();
    // Whose kernel caches what; before Start(). It outlives the last command that runs.
    void SetMount(MountCaches& mount) { services_.mount = &mount; }
    void Start();
    // `done` runs on some thread when all their changes of files have been acknowledged, or with the first failure.
    void DrainChanges(Done done) const;
    // Every machine stops where it is; nothing is destroyed. The loops must still run.
    void Stop();

    // For sandboxes made from now on: those that are there stay.
    void SetLimit(std::size_t limit) { limit_.store(limit); }

    // mkdir: checks, makes keys, journals the intent, then `done`; the launch goes on behind.
    // EEXIST, EDQUOT, ENOSPC, and what the provider's Check says.
    void Create(const SandboxName& name, const Template& what,
                UniqueFunction<void(Result<SandboxPtr>)> done);
    // rmdir: the name is free when `done` runs. ENOENT.
    void Destroy(const std::string& name, Done done);

    SandboxPtr Find(const std::string& name) const;
    SandboxPtr FindGeneration(Generation generation) const;  // also gone ones
    std::vector<SandboxPtr> List() const;                    // by name
    std::vector<SandboxPtr> History() const;  // being destroyed or gone, oldest first

 private:
    SandboxPtr Make(SandboxRecord record, Provider& provider);
    std::string TokenFor(Generation generation) const;
    void Gone(const Sandbox& sandbox);
    // Forgets those gone for longer than history is kept, and comes back for the others.
    void DropOldHistory();

    SandboxServices services_;
    const Config config_;
    std::atomic<std::size_t> limit_;
    const FindProvider find_provider_;
    const NextLoop next_loop_;
    std::atomic<std::uint64_t> next_epoch_;

    mutable Mutex mu_{LockRank::kSandboxes};
    std::map<std::string, SandboxPtr> by_name_ GUARDED_BY(mu_);
    std::map<Generation, SandboxPtr> all_ GUARDED_BY(mu_);
    std::set<std::string> creating_ GUARDED_BY(mu_);
    std::uint64_t next_generation_ GUARDED_BY(mu_);
    bool sweep_waits_ GUARDED_BY(mu_) = false;
    // A sweep that waits may outlive this on its loop.
    const std::shared_ptr<Sandboxes*> self_ = std::make_shared<Sandboxes*>(this);
};

}  // namespace sbxfs
