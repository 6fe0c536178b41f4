// One launch: from a template to a task whose sshd can be dialled. Made by FargateProvider, which lets it go when it is
// done. Loop thread only.
//
//     client -> host key, task definition -> record kept -> RunTask -> ARN kept -> watched until it has an address
//
// The record is on disk before RunTask is asked, and RunTask carries the token: whatever is lost on the way, the next
// daemon asks with the same token and gets the same task.
#pragma once

#include <memory>
#include <string>

#include "sandbox/provider.h"
#include "sandbox/providers/fargate/fargate_books.h"

namespace sbxfs {

class FargateLaunch : public std::enable_shared_from_this<FargateLaunch> {
 public:
    FargateLaunch(FargateBooks& books, LaunchSpec spec, LaunchPhase phase, LaunchDone done);

    void Start();
    // Nobody has been answered yet.
    bool Open() const { return bool{done_}; }
    // Somebody else asks for the same while it is Open().
    void Join(LaunchPhase phase, LaunchDone done);
    // rmdir came: nothing is started any more. ECANCELED to whoever launched.
    void Cancel();
    // RunTask was asked and has not answered: whether there is a task, and which, is not known yet.
    bool Asking() const { return asking_; }
    // Runs when Asking() has become false; at once when it is.
    void WhenAnswered(Job job);

 private:
    void Prepare();
    void KeyReady(Result<PreparedHostKey> key);
    void FindDefinition();
    void DefinitionReady(Result<std::string> arn);
    void KeepIntent();
    Result<aws::RunTaskRequest> Request() const;
    void RunTask();
    void Answered(aws::Outcome<aws::EcsTasks> answer);
    void Refused(const Error& why);
    void NotPlaced(const aws::EcsFailure& failure);
    void Adopt(const std::string& desired_status);
    void Started(const std::string& arn);
    void Watch();
    bool Look(const TaskWatch::Look& look);
    void AddressKnown(const aws::EcsTask& task, const std::string& public_address);
    void Finish();
    void Explain(const aws::EcsTask& task);
    void Fail(const Error& why);
    void Tell(const std::string& phase);
    void AnsweredAll();
    bool Expired() const;

    FargateBooks& books_;
    const LaunchSpec spec_;
    LaunchPhase phase_;
    LaunchDone done_;
    FargateSettings settings_;
    FargateAccess access_;
    PreparedHostKey key_;
    FargateRecord record_;
    std::string definition_;
    aws::EcsTask task_;
    std::string address_;
    std::string told_;  // the last phase
    SteadyTime begun_{};
    int unplaced_ = 0;      // tries without capacity
    bool resumed_ = false;  // an earlier daemon may have asked
    bool definition_renewed_ = false;
    bool asked_again_ =
        false;  // because the answer could not be read: the same token gets the same task
    bool asking_ = false;
    bool cancelled_ = false;
    std::uint64_t watch_ = 0;
    std::vector<Job> waiting_;  // for the answer of RunTask
};

}  // namespace sbxfs
