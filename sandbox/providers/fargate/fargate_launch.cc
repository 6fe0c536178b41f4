#include "sandbox/providers/fargate/fargate_launch.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "aws/crypto.h"
#include "base/log.h"
#include "base/strings.h"
#include "sandbox/providers/fargate/task_report.h"

namespace sbxfs {
namespace {

constexpr auto kFirstPlacePause = std::chrono::seconds(5);
constexpr int kMostPlaceDoublings = 4;
constexpr int kLastLines = 10;

std::string Lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](char c) {
        return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    });
    return text;
}

// On its way out, whatever it was doing.
bool IsEnding(const aws::EcsTask& task) {
    return task.desired_status == "STOPPED" || task.last_status == "STOPPED";
}

}  // namespace

FargateLaunch::FargateLaunch(FargateBooks& books, LaunchSpec spec, LaunchPhase phase,
                             LaunchDone done)
    : books_(books), spec_(std::move(spec)), phase_(std::move(phase)), done_(std::move(done)) {}

void FargateLaunch::Start() {
    begun_ = books_.loop().clock().Steady();
    auto settings = ReadFargateSettings(spec_.what, books_.environment());
    if (!settings) return Fail(settings.error());
    settings_ = *std::move(settings);
    record_.client_token = ClientTokenFor(spec_);
    if (const FargateRecord* known = books_.Find(spec_.token)) {
        record_ = *known;
        resumed_ = true;
        // Where it was started, it is looked for, whatever the configuration says by now.
        settings_.account = record_.account;
        settings_.cluster = record_.cluster;
    }
    books_.Access(settings_.account, [self = shared_from_this()](Result<FargateAccess> access) {
        if (!access) return self->Fail(access.error());
        self->access_ = *std::move(access);
        self->settings_.account.region = self->access_.client->region();
        self->Prepare();
    });
}

void FargateLaunch::Join(LaunchPhase phase, LaunchDone done) {
    phase_ = [first = std::move(phase_), second = std::move(phase)](std::string_view name) {
        first(name);
        second(name);
    };
    done_ = [first = std::move(done_), second = std::move(done)](const Result<Launched>& launched) {
        first(launched);
        second(launched);
    };
}

void FargateLaunch::Cancel() {
    cancelled_ = true;
    if (watch_ != 0) access_.client->watch(settings_.cluster).Unwatch(std::exchange(watch_, 0));
    Fail(Error(Errno{ECANCELED}, "this sandbox was destroyed; a new one needs a new launch"));
}

void FargateLaunch::WhenAnswered(Job job) {
    if (!asking_) return job();
    waiting_.push_back(std::move(job));
}

void FargateLaunch::Prepare() {
    if (cancelled_) return;
    access_.host_keys->Prepare(settings_, record_.client_token, spec_.host_key,
                               [self = shared_from_this()](Result<PreparedHostKey> key) {
                                   self->KeyReady(std::move(key));
                               });
}

void FargateLaunch::KeyReady(Result<PreparedHostKey> key) {
    if (!key) return Fail(key.error());
    key_ = *std::move(key);
    if (!key_.secret_arn.empty())
        settings_.host_key_secret = key_.secret_arn;  // a definition wants the ARN
    if (cancelled_) return;
    if (record_.stage == TaskStage::kStarted) return Watch();
    FindDefinition();
}

void FargateLaunch::FindDefinition() {
    access_.client->definitions().Find(settings_, ImageFor(settings_, spec_.name.full, spec_.token),
                                       [self = shared_from_this()](Result<std::string> arn) {
                                           self->DefinitionReady(std::move(arn));
                                       });
}

void FargateLaunch::DefinitionReady(Result<std::string> arn) {
    if (!arn) return Fail(arn.error());
    definition_ = *std::move(arn);
    if (cancelled_) return;
    KeepIntent();
}

// Before anything is kept: settings that ECS would not take leave no trace.
void FargateLaunch::KeepIntent() {
    if (const auto request = Request(); !request) return Fail(request.error());
    record_.token = spec_.token;
    record_.account = settings_.account;
    record_.cluster = settings_.cluster;
    record_.log_group = settings_.log_group;
    record_.log_stream_prefix = settings_.log_stream_prefix;
    record_.container_name = settings_.container_name;
    record_.host_key_bucket = key_.object.empty() ? "" : settings_.host_key_bucket;
    record_.host_key_object = key_.object;
    record_.stage = TaskStage::kIntended;
    record_.intended_ms = EpochMs(books_.loop().clock().System());
    books_.Write(record_, [self = shared_from_this()](const Status& kept) {
        if (!kept) return self->Fail(kept.error().While("keeping the intent to launch"));
        self->RunTask();
    });
}

Result<aws::RunTaskRequest> FargateLaunch::Request() const {
    return MakeRunTaskRequest({settings_, spec_, record_.client_token, books_.owner(), definition_,
                               Secret(ProofFor(books_.mount_secret(), record_.client_token)),
                               key_.file_arn});
}

void FargateLaunch::RunTask() {
    if (cancelled_) return;
    auto request = Request();
    if (!request) return Fail(request.error());
    asking_ = true;
    Tell("run_task");
    access_.client->ecs().RunTask(*request,
                                  [self = shared_from_this()](aws::Outcome<aws::EcsTasks> answer) {
                                      self->Answered(std::move(answer));
                                  });
}

void FargateLaunch::Answered(aws::Outcome<aws::EcsTasks> answer) {
    if (answer) std::erase_if(answer->tasks, [](const auto& task) { return task.arn.empty(); });
    if (answer && !answer->tasks.empty()) return Started(answer->tasks.front().arn);
    if (!answer) {
        const aws::ApiFailure& failure = answer.failure();
        // Launched before with other parameters, by a daemon that had another configuration: that task is ours.
        if (failure.kind == aws::FailureKind::kConflict) return Adopt("RUNNING");
        const bool stale = failure.message.find("INACTIVE") != std::string::npos ||
                           failure.message.find("inactive") != std::string::npos;
        // Only a refusal says that nothing was started. A 200 that nobody can read says that something was.
        const bool nothing_started = failure.http_status / 100 == 4 && !failure.maybe_done &&
                                     !resumed_ && failure.kind != aws::FailureKind::kTransient;
        if (nothing_started && !stale) return Refused(failure.error);
        AnsweredAll();
        if (failure.http_status / 100 == 2 && !std::exchange(asked_again_, true)) return RunTask();
        if (stale && !std::exchange(definition_renewed_, true)) {
            access_.client->definitions().Forget(definition_);
            return FindDefinition();
        }
        return Fail(failure.error);
    }
    AnsweredAll();
    if (answer->failures.empty() && !std::exchange(asked_again_, true)) return RunTask();
    if (answer->failures.empty())
        return Fail(Error(Errno{EIO}, "ecs:RunTask answered with neither a task nor a reason",
                          Blame::kRemote));
    NotPlaced(answer->failures.front());
}

// ECS has heard of this launch once, and said no: there is no task to look for.
void FargateLaunch::Refused(const Error& why) {
    books_.Remove(spec_.token, [self = shared_from_this(), why](const Status&) {
        self->AnsweredAll();
        self->Fail(why);
    });
}

// A 200 that says no: capacity comes back, a wrong setting does not.
void FargateLaunch::NotPlaced(const aws::EcsFailure& failure) {
    const std::string said =
        "ecs:RunTask started nothing: " + Printable(failure.reason, 200) +
        (failure.detail.empty() ? "" : " (" + Printable(failure.detail, 200) + ")");
    const aws::FailureKind kind = aws::ClassifyReason(failure.reason);
    if (kind != aws::FailureKind::kCapacity)
        return Fail(Error(aws::ErrnoFor(kind), said, Blame::kRemote));
    if (Expired())
        return Fail(
            Error(Errno{EAGAIN},
                  said + "; it was tried for " + std::to_string(settings_.startup_timeout_s) + " s",
                  Blame::kRemote));
    Tell("waiting_for_capacity");
    const auto pause = kFirstPlacePause * (1 << std::min(unplaced_++, kMostPlaceDoublings));
    RunLater(books_.loop(), pause, [self = shared_from_this()] { self->RunTask(); });
}

void FargateLaunch::Adopt(const std::string& desired_status) {
    access_.client->ecs().ListTasks(
        {settings_.cluster, desired_status, record_.client_token},
        [self = shared_from_this(), desired_status](aws::Outcome<std::vector<std::string>> arns) {
            if (arns && !arns->empty()) return self->Started(arns->front());
            if (arns && desired_status == "RUNNING") return self->Adopt("STOPPED");
            self->AnsweredAll();
            if (!arns) return self->Fail(arns.failure().error);
            self->Fail(Error(Errno{EEXIST},
                             "ECS knows this launch already, with other settings, and shows no "
                             "task for it: rmdir and make a new one",
                             Blame::kRemote));
        });
}

void FargateLaunch::Started(const std::string& arn) {
    record_.arn = arn;
    // Destroyed meanwhile: the record says so and must go on saying so.
    const FargateRecord* known = books_.Find(spec_.token);
    record_.stage = known != nullptr && known->stage == TaskStage::kDestroyed
                        ? TaskStage::kDestroyed
                        : TaskStage::kStarted;
    books_.Write(record_, [self = shared_from_this()](const Status& kept) {
        // The task runs all the same, and is found again by its token.
        if (!kept)
            Log(LogLevel::kError, "a task's ARN is not kept",
                {{"arn", self->record_.arn}, {"why", kept.error()}});
        self->AnsweredAll();
        if (!self->cancelled_) self->Watch();
    });
}

void FargateLaunch::AnsweredAll() {
    asking_ = false;
    for (const Job& job : std::exchange(waiting_, {}))
        job();
}

void FargateLaunch::Watch() {
    Tell("provisioning");
    if (settings_.host_key == HostKeyMode::kLogs) {
        const std::string stream =
            LogStream(settings_.log_stream_prefix, settings_.container_name, record_.arn);
        access_.host_keys->AwaitPrinted(
            settings_, stream, [self = shared_from_this()](Result<std::string> line) {
                if (!line)
                    return self->Fail(
                        line.error().While("reading the host key that the task printed"));
                self->key_.public_line = *line;
                self->Tell("host_key");
                self->Finish();
            });
    }
    const bool wants_public =
        settings_.address == AddressChoice::kPublic ||
        (settings_.address == AddressChoice::kAuto && settings_.assign_public_ip);
    watch_ = access_.client->watch(settings_.cluster)
                 .Watch(record_.arn, TaskWatch::Pace::kStarting,
                        wants_public ? TaskWatch::PublicAddress::kWanted
                                     : TaskWatch::PublicAddress::kNotWanted,
                        [self = shared_from_this()](const TaskWatch::Look& look) {
                            return self->Look(look);
                        });
}

bool FargateLaunch::Look(const TaskWatch::Look& look) {
    if (cancelled_) return true;
    if (look.task == nullptr) {
        Fail(Error(
            Errno{EHOSTDOWN},
            "ECS has not known the task " + record_.arn + " for a minute: make the sandbox again",
            Blame::kRemote));
        return true;
    }
    task_ = *look.task;
    if (!task_.last_status.empty()) Tell(Lower(task_.last_status));
    if (IsEnding(task_)) {
        // The exit codes come with the end.
        if (task_.last_status != "STOPPED" && !Expired()) return false;
        Explain(task_);
        return true;
    }
    if (address_.empty()) AddressKnown(task_, look.public_address);
    if (done_ && Expired()) {
        Fail(Error(Errno{ETIMEDOUT},
                   "the task has no address after " + std::to_string(settings_.startup_timeout_s) +
                       " s (it is " + task_.last_status +
                       "): check the subnets, or raise startup_timeout",
                   Blame::kRemote));
        return true;
    }
    // Watched on after the address is known: a task whose image cannot be pulled has one, too, and dies a little later.
    return !done_ && task_.last_status == "RUNNING";
}

void FargateLaunch::AddressKnown(const aws::EcsTask& task, const std::string& public_address) {
    if (task.interface_state != "ATTACHED" && task.last_status != "RUNNING") return;
    const bool wants_public =
        settings_.address == AddressChoice::kPublic ||
        (settings_.address == AddressChoice::kAuto && settings_.assign_public_ip);
    address_ = wants_public ? public_address : task.private_address;
    if (address_.empty()) return;
    Tell("address");
    Finish();
}

void FargateLaunch::Finish() {
    if (!done_ || address_.empty() || key_.public_line.empty()) return;
    Launched launched;
    launched.id = record_.arn;
    launched.connect.address = TcpAddress{address_, settings_.ssh_port};
    launched.connect.user = settings_.ssh_user;
    launched.connect.host_key = key_.public_line;
    if (settings_.host_key == HostKeyMode::kShared) {
        // Where the entrypoint puts SBXFS_TOKEN: the second where the image's user is not root.
        launched.connect.proof_files = {"/run/sbxfs/token", ".sbxfs-token"};
        launched.connect.proof_sha256 =
            aws::Sha256Hex(ProofFor(books_.mount_secret(), record_.client_token));
    }
    launched.facts = TaskFacts(task_);
    launched.facts.Set("host_key_mode", ToString(settings_.host_key))
        .Set("region", settings_.account.region);
    launched.facts.Set("cluster", settings_.cluster).Set("address", address_);
    std::exchange(done_, {})(std::move(launched));
}

void FargateLaunch::Explain(const aws::EcsTask& task) {
    const Errno code = EndedByTimer(task) ? Errno{ETIME} : Errno{EHOSTDOWN};
    if (record_.log_group.empty()) return Fail(Error(code, WhyStopped(task, {}), Blame::kRemote));
    access_.client->logs().GetLogEvents(
        record_.log_group,
        LogStream(record_.log_stream_prefix, record_.container_name, record_.arn), kLastLines,
        [self = shared_from_this(), task, code](aws::Outcome<std::vector<aws::LogLine>> lines) {
            const auto last = lines ? *lines : std::vector<aws::LogLine>();
            self->Fail(Error(code, WhyStopped(task, last), Blame::kRemote));
        });
}

void FargateLaunch::Fail(const Error& why) {
    if (settings_.host_key == HostKeyMode::kLogs && access_.host_keys != nullptr &&
        !record_.arn.empty())
        access_.host_keys->StopAwaiting(
            LogStream(settings_.log_stream_prefix, settings_.container_name, record_.arn));
    if (!done_) return;
    books_.loop().Post([done = std::exchange(done_, {}), why] { done(why); });
}

void FargateLaunch::Tell(const std::string& phase) {
    if (!done_ || told_ == phase) return;
    told_ = phase;
    phase_(phase);
}

bool FargateLaunch::Expired() const {
    return books_.loop().clock().Steady() - begun_ >
           std::chrono::seconds(settings_.startup_timeout_s);
}

}  // namespace sbxfs
