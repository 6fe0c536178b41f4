#include "sandbox/providers/fargate/fargate_provider.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>

#include "base/log.h"
#include "base/strings.h"
#include "sandbox/providers/fargate/task_report.h"

namespace sbxfs {
namespace {

constexpr std::size_t kRememberedTokens = 4096;
// Long enough to spare a script a hundred failed launches, short enough for whoever has just renewed them.
constexpr auto kBadCredentialsFor = std::chrono::seconds(10);
constexpr int kLastLines = 10;

}  // namespace

// The loop's own, but for what Check() may read.
class FargateProvider::Core : public std::enable_shared_from_this<Core> {
 public:
    explicit Core(std::unique_ptr<FargateBooks> books)
        : books_(std::move(books)), reconciler_(std::make_shared<Reconciler>(*books_)) {}

    void Start(const std::vector<Template>& templates) {
        for (const Template& what : templates) {
            if (const auto settings = ReadFargateSettings(what, books_->environment()))
                reconciler_->LookIn(settings->account, settings->cluster);
        }
        reconciler_->Start();
    }

    std::vector<Stranger> Strangers() const { return reconciler_->Strangers(); }

    Status Check(const Template& what) {
        const FargateSettings settings = TRY(ReadFargateSettings(what, books_->environment()));
        const MutexLock lock(mu_);
        const auto bad = bad_credentials_.find(settings.account);
        if (bad != bad_credentials_.end() && books_->loop().clock().Steady() < bad->second.until)
            return bad->second.why;
        return Ok();
    }

    void Launch(const LaunchSpec& spec, LaunchPhase phase, LaunchDone done) {
        if (destroyed_.contains(spec.token))
            return done(Error(Errno{ECANCELED},
                              "this sandbox was destroyed; a new one needs a new launch"));
        const auto under_way = launches_.find(spec.token);
        if (under_way != launches_.end() && under_way->second->Open())
            return under_way->second->Join(std::move(phase), std::move(done));
        const auto settings = ReadFargateSettings(spec.what, books_->environment());
        if (settings) reconciler_->LookIn(settings->account, settings->cluster);
        auto launch = std::make_shared<FargateLaunch>(
            *books_, spec, std::move(phase),
            [self = shared_from_this(), token = spec.token,
             account = settings ? settings->account : FargateAccount{},
             done = std::move(done)](Result<Launched> launched) {
                self->NoteCredentials(
                    account, launched ? std::nullopt : std::optional<Error>(launched.error()));
                done(std::move(launched));
            });
        launches_[spec.token] = launch;
        launch->Start();
    }

    void Probe(const std::string& token, const std::string& id, HealthDone done) {
        const FargateRecord* record = books_->Find(token);
        const std::string arn = record == nullptr || record->arn.empty() ? id : record->arn;
        if (record == nullptr)
            return done({Liveness::kVanished,
                         "there is no record of its task in the state directory: " +
                             (arn.empty() ? "it was never launched, or has been destroyed"
                                          : arn + " may still run, then `sbxfs list --paid` names "
                                                  "it. rmdir and make a new one")});
        if (arn.empty())
            return done({Liveness::kUnknown, "nothing is known yet of this sandbox's task"});
        books_->Access(record->account,
                       [self = shared_from_this(), record = *record,
                        done = std::move(done)](Result<FargateAccess> access) mutable {
                           if (!access) return done({Liveness::kUnknown, access.error().what()});
                           self->Look(*access, record, std::move(done));
                       });
    }

    void Destroy(const std::string& token, Done done) {
        Remember(token);
        // After a failed launch, and again by rmdir: one ending, told to all who asked.
        std::vector<Done>& asked = stopping_[token];
        asked.push_back(std::move(done));
        if (asked.size() > 1) return;
        End(token, [self = shared_from_this(), token](const Status& ended) {
            const auto told = self->stopping_.extract(token);
            for (const Done& one : told.mapped())
                one(ended);
        });
    }

 private:
    struct BadCredentials {
        Error why;
        SteadyTime until;
    };

    void End(const std::string& token, Done done) {
        const auto launch = launches_.extract(token);
        if (!launch.empty()) launch.mapped()->Cancel();
        const FargateRecord* known = books_->Find(token);
        if (known == nullptr) return done(Ok());  // nothing was asked for, and nothing will be
        FargateRecord record = *known;
        record.stage = TaskStage::kDestroyed;
        // Kept first: whatever happens now, the next daemon stops it.
        books_->Write(record, [self = shared_from_this(), token,
                               launch = launch.empty() ? nullptr : launch.mapped(),
                               done = std::move(done)](const Status& kept) mutable {
            if (!kept) return done(kept);
            Job stop = [self, token, done = std::move(done)]() mutable {
                // A launch that ECS refused has taken its record away.
                if (self->books_->Find(token) == nullptr) return done(Ok());
                std::make_shared<FargateStop>(*self->books_, token, std::move(done))->Start();
            };
            if (launch == nullptr) return stop();
            launch->WhenAnswered(std::move(stop));
        });
    }

    void Remember(const std::string& token) {
        if (!destroyed_.insert(token).second) return;
        destroyed_order_.push_back(token);
        if (destroyed_order_.size() <= kRememberedTokens) return;
        destroyed_.erase(destroyed_order_.front());
        destroyed_order_.pop_front();
    }

    // mkdir says at once what the last launch found out about the credentials.
    void NoteCredentials(const FargateAccount& account, const std::optional<Error>& why) {
        const MutexLock lock(mu_);
        bad_credentials_.erase(account);
        if (why && why->code() == Errno{EKEYEXPIRED})
            bad_credentials_.emplace(account, BadCredentials{*why, books_->loop().clock().Steady() +
                                                                       kBadCredentialsFor});
    }

    // Together with whatever else is asked about in that cluster.
    void Look(const FargateAccess& access, const FargateRecord& record, HealthDone done) {
        auto answer = std::make_shared<HealthDone>(std::move(done));
        (void)access.client->watch(record.cluster)
            .Watch(
                record.arn, TaskWatch::Pace::kStarting, TaskWatch::PublicAddress::kNotWanted,
                [self = shared_from_this(), access, record, answer](const TaskWatch::Look& look) {
                    self->Judge(access, record, look, answer);
                    return true;
                });
    }

    void Judge(const FargateAccess& access, const FargateRecord& record,
               const TaskWatch::Look& look, const std::shared_ptr<HealthDone>& answer) {
        if (look.task == nullptr)
            return (*answer)({Liveness::kEnded,
                              "ECS does not know the task any more: it ended more than an hour "
                              "ago. rmdir and make a new one"});
        const aws::EcsTask& task = *look.task;
        if (task.desired_status != "STOPPED" && task.last_status != "STOPPED")
            return (*answer)({Liveness::kAlive, ""});
        const Liveness end = EndedByTimer(task) ? Liveness::kExpired : Liveness::kEnded;
        if (record.log_group.empty()) return (*answer)({end, WhyStopped(task, {})});
        access.client->logs().GetLogEvents(
            record.log_group, LogStream(record.log_stream_prefix, record.container_name, task.arn),
            kLastLines, [task, end, answer](aws::Outcome<std::vector<aws::LogLine>> lines) {
                const auto last = lines ? *lines : std::vector<aws::LogLine>();
                (*answer)({end, WhyStopped(task, last)});
            });
    }

    const std::unique_ptr<FargateBooks> books_;
    const std::shared_ptr<Reconciler> reconciler_;
    std::map<std::string, std::shared_ptr<FargateLaunch>> launches_;  // until they are destroyed
    std::map<std::string, std::vector<Done>> stopping_;               // who waits for the end of it
    std::set<std::string> destroyed_;  // so that a late launch brings nothing back
    std::deque<std::string> destroyed_order_;
    Mutex mu_{LockRank::kProvider};
    std::map<FargateAccount, BadCredentials> bad_credentials_ GUARDED_BY(mu_);
};

Result<std::unique_ptr<FargateProvider>> FargateProvider::Open(Loop& loop, FargateOptions options) {
    aws::CurlHttp::Settings http;
    http.ca_bundle = aws::Lookup(options.environment, "AWS_CA_BUNDLE");
    auto client = std::make_unique<aws::CurlHttp>(loop, http);
    return Open(loop, std::move(options), std::move(client));
}

Result<std::unique_ptr<FargateProvider>> FargateProvider::Open(
    Loop& loop, FargateOptions options, std::unique_ptr<aws::HttpClient> http) {
    auto books = TRY(FargateBooks::Open(loop, *http, std::move(options.environment),
                                        std::move(options.owner), options.state_dir + "/fargate"));
    auto core = std::make_shared<Core>(std::move(books));
    loop.Post([core, templates = options.templates] { core->Start(templates); });
    return std::unique_ptr<FargateProvider>(
        new FargateProvider(loop, std::move(http), std::move(core)));
}

FargateProvider::FargateProvider(Loop& loop, std::unique_ptr<aws::HttpClient> http,
                                 std::shared_ptr<Core> core)
    : loop_(loop), http_(std::move(http)), core_(std::move(core)) {}

FargateProvider::~FargateProvider() = default;

Status FargateProvider::Check(const Template& what) {
    return core_->Check(what);
}

std::vector<Stranger> FargateProvider::Strangers() const {
    return core_->Strangers();
}

void FargateProvider::Launch(const LaunchSpec& spec, LaunchPhase phase, LaunchDone done) {
    loop_.Post([core = core_, spec, phase = std::move(phase), done = std::move(done)]() mutable {
        core->Launch(spec, std::move(phase), std::move(done));
    });
}

void FargateProvider::Probe(const std::string& token, const std::string& id, HealthDone done) {
    loop_.Post([core = core_, token, id, done = std::move(done)]() mutable {
        core->Probe(token, id, std::move(done));
    });
}

void FargateProvider::Destroy(const std::string& token, const std::string& /*id*/, Done done) {
    loop_.Post([core = core_, token, done = std::move(done)]() mutable {
        core->Destroy(token, std::move(done));
    });
}

}  // namespace sbxfs
