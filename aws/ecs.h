// ECS: tasks, task definitions, clusters. Codec only, no policy: what to run, when to ask again and what an answer means
// is the provider's business. Loop thread only; `done` runs once, never from within the call.
//
// Fields and limits: "Amazon ECS API Reference", version 2014-11-13.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aws/service.h"
#include "base/json.h"

namespace sbxfs::aws {

using Tags = std::map<std::string, std::string>;

struct EcsContainer {
    std::string name;
    std::string last_status;
    std::string reason;  // "CannotPullContainerError: ..."
    std::string health;
    std::string image_digest;
    std::optional<std::int64_t> exit_code;
};

struct EcsTask {
    std::string arn;
    std::string last_status;     // PROVISIONING ... STOPPED
    std::string desired_status;  // RUNNING or STOPPED
    std::string stop_code;
    std::string stopped_reason;
    std::string started_by;
    std::string task_definition;
    std::string platform_version;
    std::string capacity_provider;
    std::string cpu;
    std::string memory;
    std::string interface_id;     // of the ENI, as soon as it is known
    std::string interface_state;  // ATTACHED once it can be reached
    std::string private_address;
    std::vector<EcsContainer> containers;
    Tags tags;  // only when asked for
    // "createdAt", "pullStartedAt", ...: those that have passed.
    std::map<std::string, SystemTime> times;
};

// What a call could not do for one of the things it was asked about, with status 200.
struct EcsFailure {
    std::string arn;
    std::string reason;
    std::string detail;
};

struct EcsTasks {
    std::vector<EcsTask> tasks;
    std::vector<EcsFailure> failures;
};

struct ContainerOverride {
    std::string name;
    std::map<std::string, std::string> environment;
    std::vector<std::string> environment_files;  // ARNs of S3 objects
    std::vector<std::string> command;            // empty: as defined
};

struct RunTaskRequest {
    std::string
        client_token;  // up to 64 of the codes 33..126: the same one never starts a second task
    std::string cluster;
    std::string task_definition;  // with its revision
    std::string started_by;       // up to 128 of [A-Za-z0-9/_-]
    std::string platform_version;
    std::string capacity_provider;  // empty: launch type FARGATE
    std::vector<std::string> subnets;
    std::vector<std::string> security_groups;
    bool assign_public_ip = false;
    bool enable_execute_command = false;
    std::string cpu;  // overrides; empty: as defined
    std::string memory;
    std::optional<int> ephemeral_storage_gib;
    std::string task_role_arn;
    std::string execution_role_arn;
    std::vector<ContainerOverride> containers;
    Tags tags;
};

// The JSON of `overrides`, whose length ECS limits to 8192 characters.
Json OverridesJson(const RunTaskRequest& request);
inline constexpr std::size_t kLargestOverrides = 8192;

struct ListTasksRequest {
    std::string cluster;
    std::string desired_status =
        "RUNNING";             // includes what is still starting; STOPPED for the others
    std::string started_by{};  // excludes every other filter
};

class Ecs {
 public:
    using TasksDone = UniqueFunction<void(Outcome<EcsTasks>)>;
    using ArnsDone = UniqueFunction<void(Outcome<std::vector<std::string>>)>;
    using JsonAnswer = UniqueFunction<void(Outcome<Json>)>;

    explicit Ecs(std::shared_ptr<Service> service) : service_(std::move(service)) {}

    // Repeated as needed, since it carries a token.
    void RunTask(const RunTaskRequest& request, TasksDone done);
    // At most kMostTasks ARNs.
    enum class WithTags { kNo, kYes };
    void DescribeTasks(const std::string& cluster, const std::vector<std::string>& arns,
                       WithTags with_tags, TasksDone done);
    static constexpr std::size_t kMostTasks = 100;
    // Harmless for a task that has stopped; the answer is the task as it is then.
    void StopTask(const std::string& cluster, const std::string& arn, const std::string& reason,
                  TasksDone done);
    // All pages.
    void ListTasks(const ListTasksRequest& request, ArnsDone done);

    // `definition` is the request as ECS documents it. The answer is its "taskDefinition".
    void RegisterTaskDefinition(const Json& definition, JsonAnswer done);
    // "taskDefinition", with its tags beside the members it has there.
    void DescribeTaskDefinition(const std::string& name, JsonAnswer done);
    // Newest first, ACTIVE ones.
    void ListTaskDefinitions(const std::string& family, ArnsDone done);
    // Whole answer: "clusters" and "failures".
    void DescribeCluster(const std::string& cluster, JsonAnswer done);

    const std::shared_ptr<Service>& service() const { return service_; }

 private:
    void Send(const std::string& action, const Json& body, Repeat repeat, JsonAnswer done);
    struct Pages {
        std::vector<std::string> found{};
        std::size_t read = 0;
    };
    void NextPage(std::string action, Json body, std::string member, std::shared_ptr<Pages> pages,
                  ArnsDone done);

    std::shared_ptr<Service> service_;
};

}  // namespace sbxfs::aws
