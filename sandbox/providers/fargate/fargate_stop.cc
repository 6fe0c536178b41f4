#include "sandbox/providers/fargate/fargate_stop.h"

#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace sbxfs {

const FargateRecord& FargateStop::record() const {
    const FargateRecord* record = books_.Find(token_);
    CHECK(record != nullptr);
    return *record;
}

void FargateStop::Start() {
    books_.Access(record().account, [self = shared_from_this()](Result<FargateAccess> access) {
        if (!access) return self->End(access.error());
        self->access_ = *std::move(access);
        const std::string& arn = self->record().arn;
        if (arn.empty()) return self->FindByToken("RUNNING");
        self->StopTask(arn);
    });
}

void FargateStop::FindByToken(const std::string& desired_status) {
    access_.client->ecs().ListTasks(
        {record().cluster, desired_status, record().client_token},
        [self = shared_from_this(), desired_status](aws::Outcome<std::vector<std::string>> arns) {
            if (!arns) {
                // No cluster, no tasks.
                if (arns.failure().kind == aws::FailureKind::kNotFound) return self->Stopped();
                return self->End(arns.failure().error);
            }
            if (!arns->empty()) return self->StopTask(arns->front());
            if (desired_status == "RUNNING") return self->FindByToken("STOPPED");
            self->NoneFound();
        });
}

void FargateStop::NoneFound() {
    const auto age = books_.loop().clock().System() - FromEpochMs(record().intended_ms);
    if (age >= kUnansweredFor) return Stopped();
    RunLater(books_.loop(), kLookAgain,
             [self = shared_from_this()] { self->FindByToken("RUNNING"); });
}

void FargateStop::StopTask(const std::string& arn) {
    access_.client->ecs().StopTask(
        record().cluster, arn, "sbxfs: rmdir",
        [self = shared_from_this(), arn](aws::Outcome<aws::EcsTasks> stopped) {
            if (!stopped) {
                const aws::ApiFailure& failure = stopped.failure();
                // ECS forgets stopped tasks within the hour.
                const bool unknown = failure.kind == aws::FailureKind::kNotFound ||
                                     (failure.kind == aws::FailureKind::kInvalid &&
                                      failure.message.find("not found") != std::string::npos);
                if (unknown) return self->Stopped();
                return self->End(failure.error);
            }
            if (stopped->tasks.front().last_status == "STOPPED") return self->Stopped();
            (void)self->access_.client->watch(self->record().cluster)
                .Watch(arn, TaskWatch::Pace::kStopping, TaskWatch::PublicAddress::kNotWanted,
                       [self](const TaskWatch::Look& look) {
                           if (look.task != nullptr && look.task->last_status != "STOPPED")
                               return false;
                           self->Stopped();
                           return true;
                       });
        });
}

void FargateStop::Stopped() {
    const FargateRecord& kept = record();
    access_.host_keys->Remove(kept.host_key_bucket, kept.host_key_object,
                              [self = shared_from_this()](const Status& gone) {
                                  // The key is of no use without its task; the bucket's lifecycle rule takes it away.
                                  if (!gone)
                                      Log(LogLevel::kWarning, "a host key was left in its bucket",
                                          {{"token", self->token_}, {"why", gone.error()}});
                                  self->books_.Remove(self->token_, [self](const Status& removed) {
                                      self->End(removed);
                                  });
                              });
}

void FargateStop::End(const Status& status) {
    if (done_) std::exchange(done_, {})(status);
}

}  // namespace sbxfs
