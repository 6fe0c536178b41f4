#include "sandbox/providers/fargate/task_definition.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "aws/crypto.h"
#include "base/strings.h"

// From entrypoint_text.S.
extern "C" {
extern const char sbxfs_entrypoint_begin[];
extern const char sbxfs_entrypoint_end[];
}

namespace sbxfs {
namespace {

constexpr const char* kHostKeyVariable = "SBXFS_HOST_KEY";

Json LogSettings(const FargateSettings& settings) {
    const Json options = Json::Object()
                             .Set("awslogs-group", settings.log_group)
                             .Set("awslogs-create-group", "true")
                             .Set("awslogs-region", settings.account.region)
                             .Set("awslogs-stream-prefix", settings.log_stream_prefix);
    return Json::Object().Set("logDriver", "awslogs").Set("options", options);
}

// What a container refers to but does not hold.
Json SecretsList(const FargateSettings& settings) {
    Json list = Json::Array();
    for (const auto& [name, arn] : settings.secrets)
        list.Append(Json::Object().Set("name", name).Set("valueFrom", arn));
    if (settings.host_key == HostKeyMode::kShared)
        list.Append(Json::Object()
                        .Set("name", kHostKeyVariable)
                        .Set("valueFrom", settings.host_key_secret));
    return list;
}

// The sandbox's own entrypoint without what only people read: it is sent along with every definition that needs it.
std::string EntrypointText() {
    const std::string_view whole(
        &sbxfs_entrypoint_begin[0],
        static_cast<std::size_t>(&sbxfs_entrypoint_end[0] - &sbxfs_entrypoint_begin[0]));
    std::string text;
    for (const std::string& line : Split(whole, '\n'))
        if (!Trim(line).starts_with('#')) text += line + "\n";
    return text;
}

// Written to a file first, because the entrypoint starts itself again; it installs sshd where that is missing.
Json Bootstrap() {
    Json command = Json::Array();
    command.Append(
        Json::String("umask 022; printf '%s' \"$0\" >/tmp/.sbxfs && exec /bin/sh /tmp/.sbxfs"));
    return command.Append(Json::String(EntrypointText()));
}

void Configure(Json& container, const FargateSettings& settings, const std::string& image) {
    if (!image.empty()) container.Set("image", image);
    container.Set("essential", true);
    if (settings.bootstrap) {
        container.Set("entryPoint",
                      Json::Array().Append(Json::String("/bin/sh")).Append(Json::String("-c")));
        container.Set("command", Bootstrap());
    }
    if (!settings.log_group.empty()) container.Set("logConfiguration", LogSettings(settings));
    if (const Json secrets = SecretsList(settings); !secrets.Elements().empty())
        container.Set("secrets", secrets);
    // Shared keys and processes that outlive their parent need somebody who reaps: the entrypoint does.
    container.Set("stopTimeout", std::int64_t{30});
}

DefinitionPayload Finish(Json body, const FargateSettings& settings) {
    DefinitionPayload payload;
    payload.hash = aws::Sha256Hex(body.Dump()).substr(0, 32);
    payload.family = settings.family_prefix + "-" + payload.hash;
    payload.body = std::move(body);
    return payload;
}

void SetCommon(Json& body, const FargateSettings& settings, const TaskSize& size) {
    body.Set("networkMode", "awsvpc");
    body.Set("requiresCompatibilities", Json::Array().Append(Json::String("FARGATE")));
    body.Set("cpu", std::to_string(size.cpu)).Set("memory", std::to_string(size.memory));
    if (!settings.execution_role_arn.empty())
        body.Set("executionRoleArn", settings.execution_role_arn);
    if (!settings.task_role_arn.empty()) body.Set("taskRoleArn", settings.task_role_arn);
}

// Neither less than its author gave the base, nor less than the template asks for.
Result<TaskSize> LargerSize(const TaskSize& wanted, const Json& base) {
    const auto of_base = [&](const char* key) {
        return ParseNumber<std::int64_t>(base.GetString(key).value_or("")).value_or(0);
    };
    return FitTaskSize(std::max(wanted.cpu, of_base("cpu")),
                       std::max(wanted.memory, of_base("memory")));
}

void EnlargeDisk(Json& body, const FargateSettings& settings) {
    if (!settings.ephemeral_storage_gib) return;
    const auto kept = body.Find("ephemeralStorage");
    const std::int64_t base = kept ? kept->GetNumber("sizeInGiB").value_or(0) : 0;
    const std::int64_t size = std::max<std::int64_t>(base, *settings.ephemeral_storage_gib);
    body.Set("ephemeralStorage", Json::Object().Set("sizeInGiB", size));
}

}  // namespace

Json DefinitionPayload::Request() const {
    Json request = body;
    request.Set("family", family);
    request.Set("tags",
                Json::Array().Append(Json::Object().Set("key", kHashTag).Set("value", hash)));
    return request;
}

DefinitionPayload DefineFromScratch(const FargateSettings& settings, const std::string& image) {
    Json container = Json::Object().Set("name", settings.container_name);
    Configure(container, settings, image);
    const Json port =
        Json::Object().Set("containerPort", std::int64_t{settings.ssh_port}).Set("protocol", "tcp");
    container.Set("portMappings", Json::Array().Append(port));
    Json body = Json::Object();
    SetCommon(body, settings, settings.size);
    body.Set("containerDefinitions", Json::Array().Append(container));
    return Finish(std::move(body), settings);
}

Result<DefinitionPayload> DefineFromBase(const FargateSettings& settings, const std::string& image,
                                         const Json& base) {
    // What RegisterTaskDefinition takes of what DescribeTaskDefinition gives.
    constexpr const char* kKept[] = {
        "volumes",          "placementConstraints", "pidMode",
        "ipcMode",          "proxyConfiguration",   "runtimePlatform",
        "executionRoleArn", "taskRoleArn",          "ephemeralStorage"};
    Json body = Json::Object();
    for (const char* key : kKept) {
        const auto value = base.Find(key);
        if (value && !(value->IsArray() && value->Elements().empty())) body.Set(key, *value);
    }
    SetCommon(body, settings, TRY(LargerSize(settings.size, base)));
    EnlargeDisk(body, settings);
    Json containers = Json::Array();
    std::vector<std::string> names;
    bool found = false;
    const auto given = base.Find("containerDefinitions");
    for (Json container : given ? given->Elements() : std::vector<Json>()) {
        names.push_back(container.GetString("name").value_or(""));
        if (names.back() == settings.container_name) {
            found = true;
            Configure(container, settings, image);
        }
        containers.Append(container);
    }
    if (!found)
        return Error(Errno{EINVAL}, "the task definition " + settings.task_definition +
                                        " has no container \"" + settings.container_name +
                                        "\"; it has: " + Join(names, ", "));
    body.Set("containerDefinitions", containers);
    return Finish(std::move(body), settings);
}

std::string ImageFor(const FargateSettings& settings, const std::string& sandbox_name,
                     const std::string& token) {
    std::string image = settings.image;
    std::string fit = sandbox_name;
    std::replace_if(
        fit.begin(), fit.end(), [](char c) { return c == '@'; }, '-');
    const std::pair<std::string_view, std::string> places[] = {
        {"{name}", fit}, {"{id}", token}, {"{task_id}", fit}, {"{task_id_sanitized}", fit}};
    for (const auto& [place, value] : places)
        for (std::size_t at = image.find(place); at != std::string::npos;
             at = image.find(place, at + value.size()))
            image.replace(at, place.size(), value);
    return image;
}

}  // namespace sbxfs
