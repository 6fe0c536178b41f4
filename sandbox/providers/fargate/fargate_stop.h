// One ending: a task is stopped until ECS says STOPPED, or it is certain that there is none. Loop thread only.
#pragma once

#include <memory>
#include <string>

#include "sandbox/providers/fargate/fargate_books.h"

namespace sbxfs {

class FargateStop : public std::enable_shared_from_this<FargateStop> {
 public:
    // `token` has a record whose stage is kDestroyed. `done` once: Ok when the provider confirmed, else why not now.
    FargateStop(FargateBooks& books, std::string token, Done done)
        : books_(books), token_(std::move(token)), done_(std::move(done)) {}
    void Start();

    // A RunTask that was never answered may have started something that ListTasks does not show for a while.
    static constexpr auto kUnansweredFor = std::chrono::seconds(90);
    static constexpr auto kLookAgain = std::chrono::seconds(10);

 private:
    const FargateRecord& record() const;
    void FindByToken(const std::string& desired_status);
    void NoneFound();
    void StopTask(const std::string& arn);
    void Stopped();
    void End(const Status& status);

    FargateBooks& books_;
    const std::string token_;
    Done done_;
    FargateAccess access_;
};

}  // namespace sbxfs
