#include "sandbox/providers/fargate/iam_actions.h"

#include <map>
#include <set>
#include <utility>

#include "sandbox/providers/fargate/launch_request.h"

namespace sbxfs {
namespace {

std::string NameOf(const std::string& arn_or_name) {
    return arn_or_name.substr(arn_or_name.rfind('/') + 1);
}

std::string SidFor(std::size_t number) {
    return "Sbxfs" + std::to_string(number);
}

}  // namespace

std::vector<NeededAction> ActionsNeeded(const FargateSettings& settings,
                                        const std::string& partition, const std::string& account) {
    const std::string region = settings.account.region.empty() ? "*" : settings.account.region;
    const auto arn = [&](const std::string& service, const std::string& rest) {
        return "arn:" + partition + ":" + service + ":" + region + ":" + account + ":" + rest;
    };
    const std::string cluster = NameOf(settings.cluster);
    const std::string tasks = arn("ecs", "task/" + cluster + "/*");
    const std::string definitions = arn("ecs", "task-definition/" + settings.family_prefix + "-*");
    std::vector<NeededAction> needed = {
        {"ecs:RunTask", definitions + ":*", "starts a sandbox", ""},
        {"ecs:TagResource", tasks, "marks what it starts, so that it is found again", ""},
        {"ecs:TagResource", definitions, "marks task definitions", ""},
        {"ecs:StopTask", tasks, "rmdir", kMountTag},
        {"ecs:DescribeTasks", tasks, "sees what becomes of it", ""},
        // These know no resources.
        {"ecs:ListTasks", "*", "finds tasks whose launch was interrupted", ""},
        {"ecs:RegisterTaskDefinition", "*", "one for all sandboxes with the same settings", ""},
        {"ecs:DescribeTaskDefinition", "*", "finds it again", ""},
        {"ecs:DescribeClusters", arn("ecs", "cluster/" + cluster), "sbxfs doctor", ""},
        {"ec2:DescribeSubnets", "*", "sbxfs doctor", ""},
        {"ec2:DescribeSecurityGroups", "*", "sbxfs doctor", ""},
    };
    const bool wants_public =
        settings.address != AddressChoice::kPrivate && settings.assign_public_ip;
    if (wants_public)
        needed.push_back(
            {"ec2:DescribeNetworkInterfaces", "*", "the public address of a task", ""});
    for (const std::string& role : {settings.execution_role_arn, settings.task_role_arn})
        if (!role.empty()) needed.push_back({"iam:PassRole", role, "gives the task its role", ""});
    if (!settings.task_definition.empty() && settings.execution_role_arn.empty()) {
        const std::string any_role = "arn:" + partition + ":iam::" + account + ":role/*";
        needed.push_back({"iam:PassRole", any_role,
                          "the roles of the base task definition; name them instead of *", ""});
    }
    if (!settings.log_group.empty()) {
        const std::string group = arn("logs", "log-group:" + settings.log_group);
        needed.push_back({"logs:GetLogEvents", group + ":log-stream:*",
                          "the last words of a task that died", ""});
        if (settings.host_key == HostKeyMode::kLogs)
            needed.push_back({"logs:FilterLogEvents", group + ":*",
                              "reads the host key that the task printed", ""});
    }
    if (settings.host_key == HostKeyMode::kShared) {
        const bool is_arn = settings.host_key_secret.starts_with("arn:");
        const std::string secret =
            is_arn ? settings.host_key_secret
                   : arn("secretsmanager", "secret:" + settings.host_key_secret + "-*");
        needed.push_back(
            {"secretsmanager:GetSecretValue", secret, "the host key of all sandboxes", ""});
        if (!is_arn)
            needed.push_back(
                {"secretsmanager:CreateSecret", secret, "makes it the first time", ""});
    }
    if (settings.host_key == HostKeyMode::kS3) {
        const std::string objects = "arn:" + partition + ":s3:::" + settings.host_key_bucket + "/" +
                                    settings.host_key_prefix + "*";
        needed.push_back({"s3:PutObject", objects, "each sandbox's host key", ""});
        needed.push_back({"s3:DeleteObject", objects, "removes it with the sandbox", ""});
    }
    return needed;
}

Json PolicyFor(const std::vector<FargateSettings>& settings, const std::string& partition,
               const std::string& account) {
    // Actions on the same resources under the same condition share a statement.
    std::map<std::pair<std::string, std::string>, std::set<std::string>>
        resources_of;  // (action, condition) -> resources
    for (const FargateSettings& one : settings)
        for (const NeededAction& needed : ActionsNeeded(one, partition, account))
            resources_of[{needed.action, needed.only_tagged}].insert(needed.resource);
    std::map<std::pair<std::set<std::string>, std::string>, std::set<std::string>> statements;
    for (const auto& [what, resources] : resources_of)
        statements[{resources, what.second}].insert(what.first);
    const auto list = [](const std::set<std::string>& texts) {
        Json array = Json::Array();
        for (const std::string& text : texts)
            array.Append(Json::String(text));
        return array;
    };
    Json document = Json::Array();
    std::size_t number = 1;
    for (const auto& [where, actions] : statements) {
        Json statement = Json::Object().Set("Sid", SidFor(number++)).Set("Effect", "Allow");
        statement.Set("Action", list(actions)).Set("Resource", list(where.first));
        if (!where.second.empty()) {
            const Json tagged = Json::Object().Set("aws:ResourceTag/" + where.second, "false");
            statement.Set("Condition", Json::Object().Set("Null", tagged));
        }
        document.Append(statement);
    }
    return Json::Object().Set("Version", "2012-10-17").Set("Statement", document);
}

}  // namespace sbxfs
