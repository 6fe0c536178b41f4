#include "sandbox/providers/fargate/fargate_record.h"

#include <dirent.h>
#include <errno.h>
#include <unistd.h>

#include <memory>
#include <utility>

#include "base/files.h"
#include "base/strings.h"
#include "sandbox/strict_json.h"

namespace sbxfs {
namespace {

constexpr std::string_view kSuffix = ".json";

struct DirCloser {
    void operator()(DIR* dir) const { (void)::closedir(dir); }
};

std::string_view ToString(TaskStage stage) {
    switch (stage) {
        case TaskStage::kIntended:
            return "intended";
        case TaskStage::kStarted:
            return "started";
        case TaskStage::kDestroyed:
            return "destroyed";
    }
    return "";
}

}  // namespace

Json FargateRecord::ToJson() const {
    Json json = Json::Object();
    json.Set("token", token).Set("client_token", client_token);
    json.Set("stage", ToString(stage)).Set("arn", arn).Set("cluster", cluster);
    json.Set("region", account.region)
        .Set("profile", account.profile)
        .Set("role_arn", account.role_arn);
    json.Set("external_id", account.external_id)
        .Set("role_session_name", account.role_session_name);
    json.Set("endpoint_url", account.endpoint_url);
    json.Set("log_group", log_group)
        .Set("log_stream_prefix", log_stream_prefix)
        .Set("container_name", container_name);
    json.Set("host_key_bucket", host_key_bucket).Set("host_key_object", host_key_object);
    json.Set("intended_ms", intended_ms);
    return json;
}

Result<FargateRecord> FargateRecord::FromJson(const Json& json) {
    FargateRecord record;
    std::string stage;
    StrictJson in(json, "record of a task");
    in.Take("token", record.token)
        .Take("client_token", record.client_token)
        .Take("stage", stage)
        .Take("arn", record.arn)
        .Take("cluster", record.cluster);
    in.Take("region", record.account.region).Take("profile", record.account.profile);
    in.Take("role_arn", record.account.role_arn).Take("external_id", record.account.external_id);
    in.Take("role_session_name", record.account.role_session_name)
        .Take("endpoint_url", record.account.endpoint_url);
    in.Take("log_group", record.log_group).Take("log_stream_prefix", record.log_stream_prefix);
    in.Take("container_name", record.container_name)
        .Take("host_key_bucket", record.host_key_bucket);
    in.Take("host_key_object", record.host_key_object).Take("intended_ms", record.intended_ms);
    for (const TaskStage one : {TaskStage::kIntended, TaskStage::kStarted, TaskStage::kDestroyed})
        if (stage == ToString(one)) record.stage = one;
    if (stage != ToString(record.stage)) in.Fail("stage", "intended, started or destroyed");
    (void)TRY(in.Finish());
    if (record.client_token.empty()) record.client_token = record.token;  // of an older daemon
    return record;
}

Result<FargateRecords> FargateRecords::Open(const std::string& dir) {
    (void)TRY(MakeDirs(dir, 0700));
    return FargateRecords(dir);
}

Result<std::map<std::string, FargateRecord>> FargateRecords::Load() const {
    std::map<std::string, FargateRecord> records;
    const std::unique_ptr<DIR, DirCloser> dir(::opendir(dir_.c_str()));
    if (dir == nullptr) return SystemError(errno, "reading " + dir_);
    while (const dirent* entry = ::readdir(dir.get())) {
        const std::string_view name(static_cast<const char*>(entry->d_name));
        if (!name.ends_with(kSuffix)) continue;  // "." and what an interrupted write left
        const std::string path = dir_ + "/" + std::string(name);
        const std::string text = TRY(ReadWholeFile(path, 1U << 20));
        const auto json = Json::Parse(text);
        auto record = json ? FargateRecord::FromJson(*json)
                           : Result<FargateRecord>(Error(Errno{EIO}, "it is no JSON", Blame::kBug));
        if (!record)
            return Error(Errno{EIO},
                         path +
                             " is damaged: it stands for a task that may cost money. Look for the "
                             "task in the ECS console, stop it, and remove the file (" +
                             record.error().what() + ")",
                         Blame::kBug);
        records[record->token] = std::move(*record);
    }
    return records;
}

Status FargateRecords::Write(const FargateRecord& record) const {
    return ReplaceFile(dir_ + "/" + record.token + std::string(kSuffix),
                       record.ToJson().Dump() + "\n", 0600);
}

Status FargateRecords::Remove(const std::string& token) const {
    const std::string path = dir_ + "/" + token + std::string(kSuffix);
    if (::unlink(path.c_str()) != 0 && errno != ENOENT)
        return SystemError(errno, "removing " + path);
    return Ok();
}

}  // namespace sbxfs
