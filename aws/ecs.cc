#include "aws/ecs.h"

#include <array>
#include <utility>

#include "aws/json_call.h"
#include "aws/query.h"

namespace sbxfs::aws {
namespace {

constexpr std::string_view kTarget = "AmazonEC2ContainerServiceV20141113";
constexpr std::size_t kMostPages = 1000;

Json Strings(const std::vector<std::string>& texts) {
    Json array = Json::Array();
    for (const std::string& text : texts)
        array.Append(Json::String(text));
    return array;
}

// A list of {nameKey: ..., "value": ...}, the form of tags and of environments.
Json Pairs(std::string_view name_key, const std::map<std::string, std::string>& pairs) {
    Json array = Json::Array();
    for (const auto& [name, value] : pairs)
        array.Append(Json::Object().Set(name_key, name).Set("value", value));
    return array;
}

void SetIfAny(Json& json, std::string_view key, const std::string& text) {
    if (!text.empty()) json.Set(key, text);
}

std::vector<Json> ElementsAt(const Json& json, std::string_view key) {
    const auto found = json.Find(key);
    return found ? found->Elements() : std::vector<Json>();
}

std::string TextAt(const Json& json, std::string_view key) {
    return json.GetString(key).value_or("");
}

EcsContainer ReadContainer(const Json& json) {
    return {TextAt(json, "name"),         TextAt(json, "lastStatus"),  TextAt(json, "reason"),
            TextAt(json, "healthStatus"), TextAt(json, "imageDigest"), json.GetNumber("exitCode")};
}

void ReadAttachment(const Json& json, EcsTask& task) {
    if (TextAt(json, "type") != "ElasticNetworkInterface") return;
    task.interface_state = TextAt(json, "status");
    for (const Json& detail : ElementsAt(json, "details")) {
        const std::string name = TextAt(detail, "name");
        if (name == "networkInterfaceId") task.interface_id = TextAt(detail, "value");
        if (name == "privateIPv4Address") task.private_address = TextAt(detail, "value");
    }
}

EcsTask ReadTask(const Json& json) {
    constexpr std::array kTimes = {"createdAt",          "connectivityAt", "pullStartedAt",
                                   "pullStoppedAt",      "startedAt",      "stoppingAt",
                                   "executionStoppedAt", "stoppedAt"};
    EcsTask task;
    task.arn = TextAt(json, "taskArn");
    task.last_status = TextAt(json, "lastStatus");
    task.desired_status = TextAt(json, "desiredStatus");
    task.stop_code = TextAt(json, "stopCode");
    task.stopped_reason = TextAt(json, "stoppedReason");
    task.started_by = TextAt(json, "startedBy");
    task.task_definition = TextAt(json, "taskDefinitionArn");
    task.platform_version = TextAt(json, "platformVersion");
    task.capacity_provider = TextAt(json, "capacityProviderName");
    task.cpu = TextAt(json, "cpu");
    task.memory = TextAt(json, "memory");
    for (const Json& attachment : ElementsAt(json, "attachments"))
        ReadAttachment(attachment, task);
    for (const Json& container : ElementsAt(json, "containers"))
        task.containers.push_back(ReadContainer(container));
    for (const Json& tag : ElementsAt(json, "tags"))
        task.tags[TextAt(tag, "key")] = TextAt(tag, "value");
    for (const char* name : kTimes)
        if (const auto time = TimeAt(json, name)) task.times[name] = *time;
    return task;
}

EcsTasks ReadTasks(const Json& json) {
    EcsTasks tasks;
    for (const Json& task : ElementsAt(json, "tasks"))
        tasks.tasks.push_back(ReadTask(task));
    for (const Json& failure : ElementsAt(json, "failures"))
        tasks.failures.push_back(
            {TextAt(failure, "arn"), TextAt(failure, "reason"), TextAt(failure, "detail")});
    return tasks;
}

Json NetworkJson(const RunTaskRequest& request) {
    Json network = Json::Object();
    network.Set("subnets", Strings(request.subnets));
    if (!request.security_groups.empty())
        network.Set("securityGroups", Strings(request.security_groups));
    network.Set("assignPublicIp", request.assign_public_ip ? "ENABLED" : "DISABLED");
    return Json::Object().Set("awsvpcConfiguration", network);
}

Json RunTaskJson(const RunTaskRequest& request) {
    Json body = Json::Object();
    body.Set("cluster", request.cluster);
    body.Set("taskDefinition", request.task_definition);
    body.Set("count", std::int64_t{1});
    body.Set("clientToken", request.client_token);
    SetIfAny(body, "startedBy", request.started_by);
    SetIfAny(body, "platformVersion", request.platform_version);
    if (request.capacity_provider.empty()) {
        body.Set("launchType", "FARGATE");
    } else {
        const Json one = Json::Object()
                             .Set("capacityProvider", request.capacity_provider)
                             .Set("weight", std::int64_t{1});
        body.Set("capacityProviderStrategy", Json::Array().Append(one));
    }
    if (request.enable_execute_command) body.Set("enableExecuteCommand", true);
    body.Set("networkConfiguration", NetworkJson(request));
    body.Set("overrides", OverridesJson(request));
    if (!request.tags.empty()) body.Set("tags", Pairs("key", request.tags));
    return body;
}

}  // namespace

Json OverridesJson(const RunTaskRequest& request) {
    Json overrides = Json::Object();
    SetIfAny(overrides, "cpu", request.cpu);
    SetIfAny(overrides, "memory", request.memory);
    SetIfAny(overrides, "taskRoleArn", request.task_role_arn);
    SetIfAny(overrides, "executionRoleArn", request.execution_role_arn);
    if (request.ephemeral_storage_gib)
        overrides.Set(
            "ephemeralStorage",
            Json::Object().Set("sizeInGiB", std::int64_t{*request.ephemeral_storage_gib}));
    Json containers = Json::Array();
    for (const ContainerOverride& container : request.containers) {
        Json one = Json::Object().Set("name", container.name);
        if (!container.environment.empty())
            one.Set("environment", Pairs("name", container.environment));
        if (!container.command.empty()) one.Set("command", Strings(container.command));
        if (!container.environment_files.empty()) {
            Json files = Json::Array();
            for (const std::string& arn : container.environment_files)
                files.Append(Json::Object().Set("type", "s3").Set("value", arn));
            one.Set("environmentFiles", files);
        }
        containers.Append(one);
    }
    return overrides.Set("containerOverrides", containers);
}

void Ecs::Send(const std::string& action, const Json& body, Repeat repeat, JsonAnswer done) {
    service_->Call(JsonCall(kTarget, action, body, repeat),
                   ExpectJson("ecs:" + action, std::move(done)));
}

void Ecs::RunTask(const RunTaskRequest& request, TasksDone done) {
    Send("RunTask", RunTaskJson(request), Repeat::kSafe,
         [done = std::move(done)](Outcome<Json> answer) {
             if (!answer) return done(std::move(answer).failure());
             done(ReadTasks(*answer));
         });
}

void Ecs::DescribeTasks(const std::string& cluster, const std::vector<std::string>& arns,
                        WithTags with_tags, TasksDone done) {
    Json body = Json::Object().Set("cluster", cluster).Set("tasks", Strings(arns));
    if (with_tags == WithTags::kYes) body.Set("include", Strings({"TAGS"}));
    Send("DescribeTasks", body, Repeat::kSafe, [done = std::move(done)](Outcome<Json> answer) {
        if (!answer) return done(std::move(answer).failure());
        done(ReadTasks(*answer));
    });
}

void Ecs::StopTask(const std::string& cluster, const std::string& arn, const std::string& reason,
                   TasksDone done) {
    const Json body = Json::Object().Set("cluster", cluster).Set("task", arn).Set("reason", reason);
    Send("StopTask", body, Repeat::kSafe, [done = std::move(done)](Outcome<Json> answer) {
        if (!answer) return done(std::move(answer).failure());
        const auto task = answer->Find("task");
        if (!task) return done(Malformed("ecs:StopTask", "no task in it"));
        done(EcsTasks{{ReadTask(*task)}, {}});
    });
}

void Ecs::ListTasks(const ListTasksRequest& request, ArnsDone done) {
    Json body = Json::Object().Set("cluster", request.cluster).Set("maxResults", std::int64_t{100});
    SetIfAny(body, "startedBy", request.started_by);
    SetIfAny(body, "desiredStatus", request.desired_status);
    NextPage("ListTasks", std::move(body), "taskArns", std::make_shared<Pages>(), std::move(done));
}

void Ecs::ListTaskDefinitions(const std::string& family, ArnsDone done) {
    Json body = Json::Object()
                    .Set("familyPrefix", family)
                    .Set("status", "ACTIVE")
                    .Set("sort", "DESC")
                    .Set("maxResults", std::int64_t{100});
    NextPage("ListTaskDefinitions", std::move(body), "taskDefinitionArns",
             std::make_shared<Pages>(), std::move(done));
}

void Ecs::NextPage(std::string action, Json body, std::string member, std::shared_ptr<Pages> pages,
                   ArnsDone done) {
    Send(action, body, Repeat::kSafe,
         [ecs = *this, action, body, member = std::move(member), pages = std::move(pages),
          done = std::move(done)](Outcome<Json> answer) mutable {
             if (!answer) return done(std::move(answer).failure());
             for (const Json& arn : ElementsAt(*answer, member))
                 if (auto text = arn.AsString()) pages->found.push_back(std::move(*text));
             const std::string token = TextAt(*answer, "nextToken");
             if (token.empty()) return done(std::move(pages->found));
             // A service that never says the end would keep us here for ever, also with nothing on its pages.
             if (++pages->read >= kMostPages)
                 return done(Malformed("ecs:" + action, "its pages do not end"));
             body.Set("nextToken", token);
             ecs.NextPage(std::move(action), std::move(body), std::move(member), std::move(pages),
                          std::move(done));
         });
}

void Ecs::RegisterTaskDefinition(const Json& definition, JsonAnswer done) {
    // Registering twice makes a second revision with the same content: untidy, harmless.
    Send("RegisterTaskDefinition", definition, Repeat::kSafe,
         [done = std::move(done)](Outcome<Json> answer) {
             if (!answer) return done(std::move(answer).failure());
             auto made = answer->Find("taskDefinition");
             if (!made) return done(Malformed("ecs:RegisterTaskDefinition", "no definition in it"));
             done(std::move(*made));
         });
}

void Ecs::DescribeTaskDefinition(const std::string& name, JsonAnswer done) {
    const Json body = Json::Object().Set("taskDefinition", name).Set("include", Strings({"TAGS"}));
    Send("DescribeTaskDefinition", body, Repeat::kSafe,
         [done = std::move(done)](Outcome<Json> answer) {
             if (!answer) return done(std::move(answer).failure());
             auto found = answer->Find("taskDefinition");
             if (!found)
                 return done(Malformed("ecs:DescribeTaskDefinition", "no definition in it"));
             if (const auto tags = answer->Find("tags")) found->Set("tags", *tags);
             done(std::move(*found));
         });
}

void Ecs::DescribeCluster(const std::string& cluster, JsonAnswer done) {
    Send("DescribeClusters", Json::Object().Set("clusters", Strings({cluster})), Repeat::kSafe,
         std::move(done));
}

}  // namespace sbxfs::aws
