// What is kept on disk of one task, so that a new daemon finds it and never starts a second one: written before RunTask is
// asked, again when it answered, and when the task is to end. One small file a token below the state directory; nothing in
// it is a secret. Value; the functions block on the disk.
#pragma once

#include <map>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "sandbox/providers/fargate/fargate_settings.h"

namespace sbxfs {

enum class TaskStage {
    kIntended,   // RunTask may have been asked, or not
    kStarted,    // the ARN is known
    kDestroyed,  // to be stopped, also when it turns up late
};

struct FargateRecord {
    std::string token;
    std::string client_token;  // what its task is known by in AWS
    FargateAccount account;
    std::string cluster;
    std::string arn;
    std::string log_group;  // for its last words
    std::string log_stream_prefix;
    std::string container_name;
    std::string host_key_bucket;  // where its host key lies until it is gone; empty: none does
    std::string host_key_object;
    TaskStage stage = TaskStage::kIntended;
    std::int64_t intended_ms = 0;

    Json ToJson() const;
    static Result<FargateRecord> FromJson(const Json& json);
};

// Below DIR, which it makes. Not thread-safe: one thread reads and writes.
class FargateRecords {
 public:
    static Result<FargateRecords> Open(const std::string& dir);
    // All there are, by token. A file that is damaged is an error: it may stand for a task that costs.
    Result<std::map<std::string, FargateRecord>> Load() const;
    Status Write(const FargateRecord& record) const;
    Status Remove(const std::string& token) const;

 private:
    explicit FargateRecords(std::string dir) : dir_(std::move(dir)) {}
    std::string dir_;
};

}  // namespace sbxfs
