#include "sandbox/sandboxes.h"

#include <errno.h>

#include <algorithm>
#include <latch>
#include <optional>
#include <utility>

#include "base/log.h"
#include "sandbox/content_store.h"
#include "sandbox/ssh_keys.h"

namespace sbxfs {
namespace {

// Every room a create needs in the journal: template, keys, facts.
constexpr std::uint64_t kCreateBytes = 64U << 10;
// Timers stand still while the machine sleeps, and its clock may be set: old history is looked for at least so often.
constexpr Duration kSweepPause = std::chrono::hours(1);

}  // namespace

Sandboxes::Sandboxes(SandboxServices services, Config config, FindProvider find_provider,
                     NextLoop next_loop)
    : services_(services),
      config_(config),
      limit_(config.limit),
      find_provider_(std::move(find_provider)),
      next_loop_(std::move(next_loop)),
      next_epoch_(services.store->first_epoch()),
      next_generation_(Raw(services.store->last_generation()) + 1) {
    services_.next_epoch = &next_epoch_;
    if (services_.contents == nullptr) services_.contents = std::make_shared<ContentStore>();
}

Sandboxes::~Sandboxes() = default;

std::string Sandboxes::TokenFor(Generation generation) const {
    return "sbxfs-" + services_.store->mount_id() + "-" + ToString(generation);
}

SandboxPtr Sandboxes::Make(SandboxRecord record, Provider& provider) {
    const Generation generation = record.generation;
    return std::make_shared<Sandbox>(services_, next_loop_(), provider, std::move(record),
                                     TokenFor(generation),
                                     [this](const Sandbox& sandbox) { Gone(sandbox); });
}

Status Sandboxes::Load() {
    const MutexLock lock(mu_);
    std::vector<SandboxRecord> records = TRY(services_.store->LoadSandboxes());
    for (SandboxRecord& record : records) {
        Result<Provider*> provider = find_provider_(record.what);
        if (!provider) {
            return std::move(provider).error().While("taking over sandbox '" + record.name +
                                                     "', whose provider is no longer configured");
        }
        std::vector<CommandRecord> commands = TRY(services_.store->LoadCommands(record.generation));
        const bool named = record.stage != Stage::kDestroying && record.stage != Stage::kGone;
        const auto seen =
            record.spool_id != 0 ? Commands::EverAttached::kYes : Commands::EverAttached::kNo;
        std::optional<NextRefusal> refusal = TRY(services_.store->LoadRefusal(record.generation));
        const SandboxPtr sandbox = Make(std::move(record), **provider);
        sandbox->commands().Restore(std::move(commands), seen, std::move(refusal));
        all_[sandbox->generation()] = sandbox;
        if (named) by_name_[sandbox->name()] = sandbox;
    }
    return Ok();
}

void Sandboxes::Start() {
    for (const SandboxPtr& sandbox : [this] {
             const MutexLock lock(mu_);
             std::vector<SandboxPtr> all;
             for (const auto& [generation, one] : all_)
                 all.push_back(one);
             return all;
         }()) {
        sandbox->Start();
    }
    DropOldHistory();
}

void Sandboxes::DrainChanges(Done done) const {
    struct Draining {
        explicit Draining(Done d) : done(std::move(d)) {}
        std::atomic<std::size_t> left{1};
        Mutex mu{LockRank::kStore};
        Status first GUARDED_BY(mu) = Ok();
        const Done done;

        void CountOff(const Status& status) {
            Status result = Ok();
            {
                const MutexLock lock(mu);
                if (first && !status) first = status;
                result = first;
            }
            if (--left == 0) done(std::move(result));
        }
    };
    const auto draining = std::make_shared<Draining>(std::move(done));
    for (const SandboxPtr& sandbox : List()) {
        ++draining->left;
        sandbox->DrainChanges([draining](const Status& status) { draining->CountOff(status); });
    }
    draining->CountOff(Ok());
}

void Sandboxes::Stop() {
    std::vector<SandboxPtr> all;
    {
        const MutexLock lock(mu_);
        for (const auto& [generation, sandbox] : all_)
            all.push_back(sandbox);
    }
    std::latch stopped(static_cast<std::ptrdiff_t>(all.size()));
    for (const SandboxPtr& sandbox : all) {
        sandbox->RunOnLoop([&stopped](Sandbox& machine) {
            machine.Stop();
            stopped.count_down();
        });
    }
    stopped.wait();
}

void Sandboxes::Create(const SandboxName& name, const Template& what,
                       UniqueFunction<void(Result<SandboxPtr>)> done) {
    const Result<Provider*> provider = find_provider_(what);
    if (!provider) return done(provider.error());
    if (Status fit = (*provider)->Check(what); !fit) return done(std::move(fit).error());
    if (Status room = services_.store->Admit(kCreateBytes); !room)
        return done(std::move(room).error());
    Result<SshKeyPair> client_key = GenerateSshKeyPair();
    if (!client_key) return done(std::move(client_key).error());
    Result<SshKeyPair> host_key = GenerateSshKeyPair();
    if (!host_key) return done(std::move(host_key).error());

    SandboxRecord record;
    record.name = name.full;
    record.what = what;
    record.client_key = std::move(*client_key);
    record.host_key = std::move(*host_key);
    record.created_ms = EpochMs(services_.clock->System());
    SetFirstTimes(record);
    std::optional<Error> refused;
    {
        const MutexLock lock(mu_);
        if (by_name_.contains(name.full) || creating_.contains(name.full)) {
            refused = Error(Errno{EEXIST}, "a sandbox named '" + name.full + "' is there already");
        } else if (by_name_.size() + creating_.size() >= limit_.load()) {
            refused = Error(Errno{EDQUOT}, "this mount may have " + std::to_string(limit_.load()) +
                                               " sandboxes at a time: remove one with rmdir, or "
                                               "raise max_sandboxes in the configuration");
        } else {
            creating_.insert(name.full);
            record.generation = Generation{next_generation_++};
        }
    }
    if (refused) return done(*std::move(refused));

    const SandboxPtr sandbox = Make(record, **provider);
    services_.store->Put(record, [this, sandbox, done = std::move(done)](const Status& kept) {
        {
            const MutexLock lock(mu_);
            creating_.erase(sandbox->name());
            if (kept) {
                all_[sandbox->generation()] = sandbox;
                by_name_[sandbox->name()] = sandbox;
            }
        }
        if (!kept) return done(kept.error());
        sandbox->Start();
        done(sandbox);
    });
}

void Sandboxes::Destroy(const std::string& name, Done done) {
    const SandboxPtr sandbox = Find(name);
    if (sandbox == nullptr) return done(Error(Errno{ENOENT}, "no sandbox named '" + name + "'"));
    sandbox->Destroy([this, sandbox, done = std::move(done)](Status kept) {
        if (kept) {
            const MutexLock lock(mu_);
            const auto it = by_name_.find(sandbox->name());
            if (it != by_name_.end() && it->second == sandbox) by_name_.erase(it);
        }
        done(std::move(kept));
    });
}

SandboxPtr Sandboxes::Find(const std::string& name) const {
    const MutexLock lock(mu_);
    const auto it = by_name_.find(name);
    return it == by_name_.end() ? nullptr : it->second;
}

SandboxPtr Sandboxes::FindGeneration(Generation generation) const {
    const MutexLock lock(mu_);
    const auto it = all_.find(generation);
    return it == all_.end() ? nullptr : it->second;
}

std::vector<SandboxPtr> Sandboxes::List() const {
    const MutexLock lock(mu_);
    std::vector<SandboxPtr> list;
    list.reserve(by_name_.size());
    for (const auto& [name, sandbox] : by_name_)
        list.push_back(sandbox);
    return list;
}

std::vector<SandboxPtr> Sandboxes::History() const {
    const MutexLock lock(mu_);
    std::vector<SandboxPtr> list;
    for (const auto& [generation, sandbox] : all_) {
        const auto it = by_name_.find(sandbox->name());
        if (it == by_name_.end() || it->second != sandbox) list.push_back(sandbox);
    }
    return list;
}

void Sandboxes::Gone(const Sandbox& sandbox) {
    Log(LogLevel::kInfo, "sandbox gone",
        {{"box", sandbox.name()}, {"generation", Raw(sandbox.generation())}});
    DropOldHistory();
}

void Sandboxes::DropOldHistory() {
    using std::chrono::milliseconds;
    const std::int64_t limit = EpochMs(services_.clock->System()) -
                               std::chrono::duration_cast<milliseconds>(config_.history).count();
    std::optional<std::int64_t> next;
    for (const SandboxPtr& sandbox : History()) {
        const SandboxRecord record = sandbox->Snapshot().record;
        if (record.stage != Stage::kGone) continue;
        if (record.ended_ms > limit) {
            next = std::min(next.value_or(record.ended_ms), record.ended_ms);
            continue;
        }
        const Generation generation = sandbox->generation();
        {
            const MutexLock lock(mu_);
            all_.erase(generation);
        }
        services_.outputs->RemoveAll(generation);
        services_.store->Remove(generation, [](const Status&) {});
    }
    if (!next) return;
    {
        const MutexLock lock(mu_);
        if (std::exchange(sweep_waits_, true)) return;
    }
    const Duration pause = std::min<Duration>(milliseconds(*next - limit), kSweepPause);
    Loop& loop = next_loop_();
    loop.Post([&loop, pause, weak = std::weak_ptr(self_)] {
        RunLater(loop, pause, [weak] {
            const auto self = weak.lock();
            if (self == nullptr) return;
            {
                const MutexLock lock((*self)->mu_);
                (*self)->sweep_waits_ = false;
            }
            (*self)->DropOldHistory();
        });
    });
}

}  // namespace sbxfs
