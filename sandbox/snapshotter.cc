#include "sandbox/snapshotter.h"

#include <errno.h>

#include <optional>
#include <set>
#include <utility>

#include "base/log.h"
#include "base/sync.h"
#include "sandbox/cached_files.h"
#include "sandbox/sandbox.h"

namespace sbxfs {
namespace {

constexpr Duration kQuietLimit = std::chrono::seconds(2);
constexpr Duration kQuietPoll = std::chrono::milliseconds(50);

struct Known {
    Mutex mu{LockRank::kProvider};
    std::set<const Sandbox*> copied GUARDED_BY(mu);  // now; who is in here is kept alive
};

Known& TheKnown() {
    static Known known;
    return known;
}

Error Busy(const Sandbox& sandbox, const std::string& why) {
    return {Errno{EBUSY}, "sandbox '" + sandbox.name() + "' " + why + ". No snapshot was made"};
}

// While it lives no command of the sandbox is started: it stands between the commands and the cache, which hears of
// everything else as before. Loop thread, but for the end of the daemon, when nothing runs any more.
class Copying final : public CommandObserver {
 public:
    // Nothing when one is under way.
    static std::shared_ptr<Copying> Begin(std::shared_ptr<Sandbox> sandbox) {
        {
            Known& known = TheKnown();
            const MutexLock lock(known.mu);
            if (!known.copied.insert(sandbox.get()).second) return nullptr;
        }
        auto copying = std::make_shared<Copying>(std::move(sandbox));
        copying->sandbox_->commands().SetObserver(copying.get());
        return copying;
    }

    explicit Copying(std::shared_ptr<Sandbox> sandbox) : sandbox_(std::move(sandbox)) {}
    ~Copying() override {
        if (!over_) Forget();
    }

    void End() {
        over_ = true;
        Forget();
        for (Job& go : std::exchange(waiting_, {}))
            sandbox_->cached().BeforeStart(std::move(go));
    }

    void BeforeStart(Job go) override { waiting_.push_back(std::move(go)); }
    void AfterEnd(std::uint32_t others, std::size_t active, Job go) override {
        sandbox_->cached().AfterEnd(others, active, std::move(go));
    }
    void Settled(std::size_t active) override { sandbox_->cached().Settled(active); }

 private:
    void Forget() {
        sandbox_->commands().SetObserver(&sandbox_->cached());
        Known& known = TheKnown();
        const MutexLock lock(known.mu);
        known.copied.erase(sandbox_.get());
    }

    const std::shared_ptr<Sandbox> sandbox_;
    std::vector<Job> waiting_;
    bool over_ = false;
};

void Copy(const std::shared_ptr<Sandbox>& sandbox, Snapshotter& snapshotter, SnapshotFacts facts,
          Done done) {
    const std::shared_ptr<Copying> copying = Copying::Begin(sandbox);
    if (copying == nullptr) return done(Busy(*sandbox, "is being copied already: wait for that"));
    // What was written below fs/ before is there before it is copied.
    sandbox->DrainChanges([sandbox, copying, &snapshotter, facts = std::move(facts),
                           done = std::move(done)](Status drained) mutable {
        if (!drained) {
            copying->End();
            return done(std::move(drained));
        }
        const std::string name = facts.name;
        snapshotter.Snapshot(
            sandbox->Snapshot().record.provider_id, std::move(facts),
            [sandbox, copying, name, done = std::move(done)](Status status) mutable {
                sandbox->RunOnLoop([copying, name, status = std::move(status),
                                    done = std::move(done)](Sandbox& self) mutable {
                    copying->End();
                    if (status)
                        Log(LogLevel::kInfo, "snapshot", {{"box", self.name()}, {"name", name}});
                    done(std::move(status));
                });
            });
    });
}

// Why it cannot be copied now; `wait` where that may change by itself in a moment.
std::optional<Error> NotNow(Sandbox& sandbox, bool& wait) {
    const SandboxSnapshot now = sandbox.Snapshot();
    if (now.record.stage == Stage::kStopped) return std::nullopt;
    if (HasEnded(now.status) || now.record.stage == Stage::kDestroying) {
        return Error(Errno{EHOSTDOWN},
                     "sandbox '" + sandbox.name() + "' has ended: nothing of it can be kept");
    }
    if (now.record.stage != Stage::kLaunched)
        return Busy(sandbox, "is on its way: wait until its status is ready or stopped");
    if (now.status == SandboxStatus::kUnreachable) {
        return Error(Errno{EHOSTUNREACH},
                     "sandbox '" + sandbox.name() +
                         "' cannot be asked what runs in it now: write it again when its status "
                         "is ready. No snapshot was made",
                     Blame::kRemote);
    }
    if (!sandbox.what().exclusive) {
        return Busy(sandbox,
                    "is not exclusive, so anybody may be changing its files: `echo stop "
                    "> ctl` first");
    }
    if (sandbox.commands().AnyRunning()) {
        return Busy(sandbox,
                    "has commands that wait or run: wait for them, or `echo stop > ctl` first");
    }
    if (sandbox.cached().cache().IsQuiet()) return std::nullopt;
    wait = true;
    return Busy(sandbox,
                "has commands or processes in it that may change files: end them, or `echo stop "
                "> ctl` first");
}

void Try(Loop& timers, const std::shared_ptr<Sandbox>& sandbox, Snapshotter& snapshotter,
         SnapshotFacts facts, SteadyTime until, Done done) {
    bool wait = false;
    std::optional<Error> why = NotNow(*sandbox, wait);
    if (!why) return Copy(sandbox, snapshotter, std::move(facts), std::move(done));
    if (!wait || timers.clock().Steady() >= until) return done(*std::move(why));
    (void)sandbox->cached().KnownStat("/");  // has it look what lives there
    Job again = [&timers, sandbox, &snapshotter, facts = std::move(facts), until,
                 done = std::move(done)]() mutable {
        sandbox->RunOnLoop([&timers, sandbox, &snapshotter, facts = std::move(facts), until,
                            done = std::move(done)](Sandbox&) mutable {
            Try(timers, sandbox, snapshotter, std::move(facts), until, std::move(done));
        });
    };
    timers.Post([&timers, again = std::move(again)]() mutable {
        RunLater(timers, kQuietPoll, std::move(again));
    });
}

}  // namespace

void TakeSnapshot(Loop& timers, const std::shared_ptr<Sandbox>& sandbox, SnapshotFacts facts,
                  Done done) {
    Snapshotter* snapshotter = sandbox->provider().snapshotter();
    if (snapshotter == nullptr) {
        return done(Error(Errno{EOPNOTSUPP}, "sandboxes of provider " + sandbox->what().provider +
                                                 " cannot be copied: tar -C work -cf FILE . keeps "
                                                 "their files"));
    }
    facts.from = sandbox->name();
    facts.generation = sandbox->generation();
    facts.what = sandbox->what();
    const SteadyTime until = timers.clock().Steady() + kQuietLimit;
    sandbox->RunOnLoop([&timers, sandbox, snapshotter, facts = std::move(facts), until,
                        done = std::move(done)](Sandbox&) mutable {
        Try(timers, sandbox, *snapshotter, std::move(facts), until, std::move(done));
    });
}

}  // namespace sbxfs
