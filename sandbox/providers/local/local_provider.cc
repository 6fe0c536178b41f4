#include "sandbox/providers/local/local_provider.h"

#include <errno.h>
#include <unistd.h>

#include <deque>
#include <filesystem>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/files.h"
#include "base/strings.h"
#include "base/sync.h"
#include "sandbox/clean_path.h"
#include "sandbox/providers/local/box.h"
#include "sandbox/providers/local/health.h"
#include "sandbox/providers/local/helper_process.h"
#include "sandbox/providers/local/init_program.h"
#include "sandbox/providers/local/launch_order.h"
#include "sandbox/providers/local/launcher.h"
#include "sandbox/providers/local/local_settings.h"
#include "sandbox/providers/local/overlay.h"
#include "sandbox/providers/local/snapshots.h"
#include "sandbox/providers/local/userns.h"

namespace sbxfs {
namespace {

constexpr std::chrono::seconds kLaunchLimit{90};
constexpr std::uint64_t kCopiedASecond = 10U << 20;  // bytes of a snapshot, at least
constexpr std::uint64_t kFilesASecond = 1000;
constexpr std::size_t kRememberedDestroys = 4096;

Blame BlameFrom(const Json& line) {
    const auto text = line.GetString("blame").value_or("bug");
    return text == "caller" ? Blame::kCaller : text == "remote" ? Blame::kRemote : Blame::kBug;
}

// What a helper's last line says went wrong; nothing when it is no error.
std::optional<Error> ErrorFrom(const Json& line) {
    const auto code = line.GetNumber("errno");
    if (!code || *code <= 0 || *code > 4096) return std::nullopt;
    return Error(Errno{static_cast<int>(*code)}, line.GetString("error").value_or(""),
                 BlameFrom(line));
}

Result<Launched> LaunchedFrom(const Json& line) {
    const auto json = line.Find("launched");
    const auto connect = json ? json->Find("connect") : std::nullopt;
    if (!connect) return Error(Errno{EIO}, "the local helper gave no answer", Blame::kBug);
    Launched launched;
    launched.id = json->GetString("id").value_or("");
    launched.connect = TRY(ConnectInfo::FromJson(*connect));
    launched.facts = json->Find("facts").value_or(Json::Object());
    return launched;
}

}  // namespace

// The loop's half: who waits for which helper.
class LocalProvider::Work : public std::enable_shared_from_this<LocalProvider::Work> {
 public:
    Work(IoLoop& loop, LocalOptions options) : loop_(loop), options_(std::move(options)) {
        for (SnapshotFacts& facts : ReadSnapshots(options_.state_dir))
            snapshots_[facts.name] = std::move(facts);
    }

    // Any thread.
    std::vector<SnapshotFacts> Snapshots() const {
        std::vector<SnapshotFacts> list;
        const MutexLock lock(mu_);
        for (const auto& [name, facts] : snapshots_)
            list.push_back(facts);
        return list;
    }

    void Snapshot(SnapshotOrder order, Done done) {
        order.init = InitOf(order.token);
        Task task;
        task.token = order.token;
        task.mode = "snapshot";
        task.order = Secret(order.ToJson().Dump());
        task.end = [this, done = std::move(done)](Result<Json> line) {
            if (!line) return done(std::move(line).error());
            const auto json = line->Find("snapshot");
            Result<SnapshotFacts> facts =
                json ? SnapshotFromJson(*json)
                     : Error(Errno{EIO}, "the local helper gave no answer", Blame::kBug);
            if (!facts) return done(std::move(facts).error());
            {
                const MutexLock lock(mu_);
                snapshots_[facts->name] = *facts;
            }
            done(Ok());
        };
        copies_.waiting.push_back(std::move(task));
        StartMore(copies_, options_.copies_at_once);
    }

    void DropSnapshot(const DropOrder& order, Done done) {
        Task task;
        task.mode = "drop-snapshot";
        task.order = Secret(order.ToJson().Dump());
        {
            // Nothing is launched from it from here on.
            const MutexLock lock(mu_);
            if (!order.name.empty() && snapshots_.erase(order.name) == 0) {
                loop_.Post([done = std::move(done), name = order.name] {
                    done(Error(Errno{ENOENT}, "there is no snapshot '" + name + "'"));
                });
                return;
            }
        }
        task.end = [done = std::move(done)](Result<Json> line) {
            done(line ? Ok() : Status(std::move(line).error()));
        };
        copies_.waiting.push_back(std::move(task));
        StartMore(copies_, options_.copies_at_once);
    }

    void Launch(LaunchOrder order, LaunchPhase phase, LaunchDone done) {
        if (destroyed_.contains(order.token)) {
            return done(Error(Errno{ECANCELED},
                              "this sandbox was destroyed; a new one needs a new launch"));
        }
        // Before any helper runs, so that a helper may take a missing box for a destroyed one.
        const Status made = Box::Create(options_.state_dir, order.token);
        if (!made) return done(made.error());
        AddLaunch("launch", order, std::move(phase), std::move(done));
    }

    void StartAgain(LaunchOrder order, LaunchPhase phase, LaunchDone done) {
        if (destroyed_.contains(order.token)) return done(Canceled());
        order.init = InitOf(order.token);
        AddLaunch("start", order, std::move(phase), std::move(done));
    }

    void Stop(StopOrder order, Done done) {
        order.init = InitOf(order.token);
        Task task;
        task.token = order.token;
        task.mode = "stop";
        task.order = Secret(order.ToJson().Dump());
        task.end = [done = std::move(done)](Result<Json> line) {
            done(line ? Ok() : Status(std::move(line).error()));
        };
        destroys_.waiting.push_back(std::move(task));
        StartMore(destroys_, options_.destroys_at_once);
    }

    void Destroy(const DestroyOrder& order, Done done) {
        Remember(order.token);
        Cancel(order.token);
        Task task;
        task.token = order.token;
        task.mode = "destroy";
        task.order = Secret(order.ToJson().Dump());
        task.end = [done = std::move(done)](Result<Json> line) {
            done(line ? Ok() : Status(std::move(line).error()));
        };
        destroys_.waiting.push_back(std::move(task));
        StartMore(destroys_, options_.destroys_at_once);
    }

 private:
    struct Task {
        std::string token;
        std::string mode;
        Secret order;
        LaunchPhase phase;
        UniqueFunction<void(Result<Json>)> end;
        std::optional<Json> last;  // the line that is the answer
        std::unique_ptr<HelperProcess> process;
        TimerPtr limit;
        std::chrono::seconds takes = kLaunchLimit;  // of launches
    };
    struct Lane {
        std::deque<Task> waiting;
        std::list<Task> running;
    };

    void AddLaunch(const char* mode, const LaunchOrder& order, LaunchPhase phase, LaunchDone done) {
        Task task;
        task.token = order.token;
        task.mode = mode;
        task.order = Secret(order.ToJson().Dump());
        task.phase = std::move(phase);
        {
            const MutexLock lock(mu_);
            if (const auto it = snapshots_.find(order.settings.snapshot); it != snapshots_.end()) {
                task.takes += std::chrono::seconds(it->second.bytes / kCopiedASecond +
                                                   it->second.files / kFilesASecond);
            }
        }
        task.end = [done = std::move(done)](Result<Json> line) {
            if (!line) return done(std::move(line).error());
            done(LaunchedFrom(*line));
        };
        launches_.waiting.push_back(std::move(task));
        StartMore(launches_, options_.launches_at_once);
    }

    // Who runs in it, or ran in it last.
    std::string InitOf(const std::string& token) const {
        const auto box = Box::Open(options_.state_dir, token);
        return box ? box->Read("pid").value_or("") : "";
    }

    // Launches of this token that have not begun will not; those that have are stopped by the
    // destroy's helper.
    void Cancel(const std::string& token) {
        std::deque<Task> kept;
        std::vector<Task> cancelled;
        for (Task& task : launches_.waiting) {
            if (task.token == token) {
                cancelled.push_back(std::move(task));
            } else {
                kept.push_back(std::move(task));
            }
        }
        launches_.waiting = std::move(kept);
        for (Task& task : cancelled)
            task.end(Canceled());
    }

    static Error Canceled() { return {Errno{ECANCELED}, "the sandbox was destroyed meanwhile"}; }

    void Remember(const std::string& token) {
        if (!destroyed_.insert(token).second) return;
        destroyed_order_.push_back(token);
        if (destroyed_order_.size() <= kRememberedDestroys) return;
        destroyed_.erase(destroyed_order_.front());
        destroyed_order_.pop_front();
    }

    void StartMore(Lane& lane, std::size_t at_once) {
        while (lane.running.size() < at_once && !lane.waiting.empty()) {
            lane.running.push_back(std::move(lane.waiting.front()));
            lane.waiting.pop_front();
            Start(lane, at_once, std::prev(lane.running.end()));
        }
    }

    void Start(Lane& lane, std::size_t at_once, std::list<Task>::iterator task) {
        std::vector<std::string> argv = options_.helper;
        argv.insert(argv.end(), {"local-helper", task->mode});
        auto process = HelperProcess::Spawn(
            loop_, argv, task->order.Reveal(), [task](const Json& line) { Hear(*task, line); },
            [this, &lane, at_once, task](const std::string& how) {
                Finish(lane, at_once, task, how);
            });
        task->order = Secret();
        if (!process) {
            // Not from within the call: the caller's lane is being walked.
            loop_.Post([work = weak_from_this(), &lane, at_once, task, error = process.error()] {
                const auto self = work.lock();
                if (self)
                    self->FinishWith(lane, at_once, task, error.While("starting the local helper"));
            });
            return;
        }
        task->process = *std::move(process);
        if (!IsLaunch(*task)) return;  // a destroy takes as long as there are files
        task->limit = loop_.After(task->takes, [task] { task->process->Kill(); });
    }

    static bool IsLaunch(const Task& task) { return task.mode == "launch" || task.mode == "start"; }

    static void Hear(Task& task, const Json& line) {
        const auto phase = line.GetString("phase");
        if (!phase) {
            task.last = line;
        } else if (task.phase) {
            task.phase(*phase);
        }
    }

    void Finish(Lane& lane, std::size_t at_once, std::list<Task>::iterator task,
                const std::string& how) {
        if (task->last) {
            const auto error = ErrorFrom(*task->last);
            return FinishWith(lane, at_once, task,
                              error ? Result<Json>(*error) : Result<Json>(*task->last));
        }
        if (!task->token.empty() && task->mode != "destroy" && destroyed_.contains(task->token)) {
            return FinishWith(lane, at_once, task, Canceled());
        }
        FinishWith(lane, at_once, task,
                   Error(Errno{EIO},
                         "the local helper ended without an answer: " +
                             (how.empty() ? "exit code 0" : how),
                         Blame::kBug));
    }

    void FinishWith(Lane& lane, std::size_t at_once, std::list<Task>::iterator task,
                    Result<Json> result) {
        const std::shared_ptr<Work> alive = shared_from_this();  // `end` may destroy the provider
        const Task finished = std::move(*task);
        lane.running.erase(task);
        StartMore(lane, at_once);
        finished.end(std::move(result));
    }

    IoLoop& loop_;
    const LocalOptions options_;
    Lane launches_;
    Lane destroys_;
    Lane copies_;
    mutable Mutex mu_{LockRank::kProvider};
    std::map<std::string, SnapshotFacts> snapshots_ GUARDED_BY(mu_);
    std::set<std::string> destroyed_;  // tokens, so that a late launch does not bring one back
    std::deque<std::string> destroyed_order_;
};

LocalProvider::LocalProvider(IoLoop& loop, LocalOptions options)
    : loop_(loop), options_(std::move(options)), work_(std::make_shared<Work>(loop, options_)) {}

LocalProvider::~LocalProvider() {
    // What watches descriptors dies on the loop's thread, or here when the loop has stopped.
    loop_.Post([work = std::move(work_)] {});
}

Result<std::unique_ptr<LocalProvider>> LocalProvider::Open(IoLoop& loop, LocalOptions options) {
    options.state_dir = TRY(CleanAbsolutePath(options.state_dir, "the state directory"));
    options.forbidden.push_back(options.state_dir);
    (void)TRY(MakeDirs(Box::BoxesDir(options.state_dir), 0700));
    std::error_code error;
    const std::string resolved = std::filesystem::canonical(options.state_dir, error).string();
    if (!error && resolved != options.state_dir) options.forbidden.push_back(resolved);
    const bool leftovers = HasLeftovers(options.state_dir);
    std::unique_ptr<LocalProvider> provider(new LocalProvider(loop, std::move(options)));
    if (leftovers) provider->RemoveSnapshot("", [](const Status&) {});
    return provider;
}

Status LocalProvider::Check(const Template& what) {
    (void)TRY(CheckSettings(what));
    const std::string wanted = TRY(ReadLocalSettings(what, options_.forbidden)).snapshot;
    if (wanted.empty()) return Ok();
    std::vector<std::string> names;
    for (const SnapshotFacts& facts : Snapshots()) {
        if (facts.name == wanted) return Ok();
        names.push_back(facts.name);
    }
    return Error(Errno{ENOENT},
                 "there is no snapshot '" + wanted + "'; there are: " +
                     (names.empty() ? "none (`echo 'snapshot NAME' > ctl` in a sandbox makes one)"
                                    : Join(names, ", ")));
}

Status LocalProvider::CheckSettings(const Template& what) {
    // Where sandboxes see this machine's files, the state of them all must not lie, nor the mount.
    for (const std::string& path : options_.forbidden) {
        for (const std::string& tree : FindProgramTrees("").directories) {
            if (!IsWithin(path, "/" + tree)) continue;
            return Error(Errno{EINVAL},
                         path + " lies in /" + tree +
                             ", which every local sandbox shows; put the mount point and "
                             "state_dir= elsewhere");
        }
    }
    (void)TRY(ReadLocalSettings(what, options_.forbidden));
    (void)TRY(CheckMachine());
    const Tools tools = FindTools();
    if (tools.bwrap.empty() || tools.sshd.empty()) {
        return Error(Errno{EOPNOTSUPP},
                     std::string("local sandboxes need ") +
                         (tools.bwrap.empty() ? "bubblewrap" : "sshd") +
                         ", which is not installed: apt install bubblewrap openssh-server");
    }
    return CheckUserNamespaces(::geteuid());
}

Result<LaunchOrder> LocalProvider::OrderFor(const LaunchSpec& spec) {
    (void)TRY(CheckToken(spec.token));
    // Whether its snapshot is there still, the launch itself finds out: one that has been launched needs it no more.
    (void)TRY(CheckSettings(spec.what));
    LaunchOrder order;
    order.token = spec.token;
    order.state_dir = options_.state_dir;
    order.hostname = HostnameFor(spec.name.full);
    order.workdir = spec.what.workdir;
    order.client_key = spec.client_key;
    order.host_key = spec.host_key;
    order.cpu = spec.what.cpu;
    order.memory = spec.what.memory;
    order.lifetime_ms = spec.what.max_lifetime_s * 1000;
    order.forbidden = options_.forbidden;
    order.init_program = options_.init_program;
    order.settings = TRY(ReadLocalSettings(spec.what, options_.forbidden));
    return order;
}

void LocalProvider::Launch(const LaunchSpec& spec, LaunchPhase phase, LaunchDone done) {
    loop_.Post([work = std::weak_ptr<Work>(work_), order = OrderFor(spec), phase = std::move(phase),
                done = std::move(done)]() mutable {
        const auto self = work.lock();
        if (!self) return;
        if (!order) return done(std::move(order).error());
        self->Launch(*std::move(order), std::move(phase), std::move(done));
    });
}

void LocalProvider::Stop(const std::string& token, const std::string& id, Done done) {
    (void)id;
    loop_.Post([work = std::weak_ptr<Work>(work_), token, state_dir = options_.state_dir,
                done = std::move(done)]() mutable {
        const auto self = work.lock();
        if (!self) return;
        const Status good = CheckToken(token);
        if (!good) return done(good);
        self->Stop(StopOrder{token, state_dir, ""}, std::move(done));
    });
}

void LocalProvider::Start(const LaunchSpec& spec, LaunchPhase phase, LaunchDone done) {
    loop_.Post([work = std::weak_ptr<Work>(work_), order = OrderFor(spec), phase = std::move(phase),
                done = std::move(done)]() mutable {
        const auto self = work.lock();
        if (!self) return;
        if (!order) return done(std::move(order).error());
        self->StartAgain(*std::move(order), std::move(phase), std::move(done));
    });
}

void LocalProvider::Snapshot(const std::string& id, SnapshotFacts facts, Done done) {
    facts.what.name = facts.name;
    facts.what.options["snapshot"] = facts.name;
    loop_.Post([work = std::weak_ptr<Work>(work_), token = id, state_dir = options_.state_dir,
                facts = std::move(facts), done = std::move(done)]() mutable {
        const auto self = work.lock();
        if (!self) return;
        const Status good = CheckToken(token);
        if (!good) return done(good);
        self->Snapshot(SnapshotOrder{token, state_dir, "", std::move(facts)}, std::move(done));
    });
}

std::vector<SnapshotFacts> LocalProvider::Snapshots() const {
    return work_->Snapshots();
}

void LocalProvider::RemoveSnapshot(const std::string& name, Done done) {
    loop_.Post([work = std::weak_ptr<Work>(work_), name, state_dir = options_.state_dir,
                done = std::move(done)]() mutable {
        if (const auto self = work.lock())
            self->DropSnapshot(DropOrder{name, state_dir}, std::move(done));
    });
}

void LocalProvider::Probe(const std::string& token, const std::string& id, HealthDone done) {
    (void)id;  // the token says it all
    loop_.Post([state_dir = options_.state_dir, token, done = std::move(done)] {
        done(HealthOf(state_dir, token));
    });
}

void LocalProvider::Destroy(const std::string& token, const std::string& id, Done done) {
    (void)id;
    loop_.Post([work = std::weak_ptr<Work>(work_), token, state_dir = options_.state_dir,
                done = std::move(done)]() mutable {
        const auto self = work.lock();
        if (!self) return;
        const Status good = CheckToken(token);
        if (!good) return done(good);
        self->Destroy(DestroyOrder{token, state_dir}, std::move(done));
    });
}

}  // namespace sbxfs
