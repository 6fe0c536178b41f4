#include "sandbox/providers/fargate/launch_request.h"

#include <algorithm>
#include <map>

#include "aws/crypto.h"
#include "base/strings.h"

namespace sbxfs {
namespace {

// Nothing of the template's own `env`: whoever may call ecs:DescribeTasks can read this, and commands get that one by one
// (mount.fargate_secrets).
std::map<std::string, std::string> EnvironmentFor(const LaunchParts& parts) {
    const Template& what = parts.spec.what;
    std::map<std::string, std::string> environment;
    environment["SBXFS_CLIENT_KEY"] = parts.spec.client_key;
    environment["SBXFS_TOKEN"] = std::string(parts.proof.Reveal());
    environment["SBXFS_SSH_PORT"] = std::to_string(parts.settings.ssh_port);
    environment["SBXFS_MAX_LIFETIME_S"] = std::to_string(what.max_lifetime_s);
    environment["SBXFS_IDLE_TIMEOUT_S"] = std::to_string(what.idle_timeout_s);
    environment["SBXFS_WORKDIR"] = what.workdir;
    if (parts.settings.host_key == HostKeyMode::kOverride)
        environment["SBXFS_HOST_KEY"] = aws::Base64(parts.spec.host_key.private_pem.Reveal());
    if (parts.settings.host_key == HostKeyMode::kLogs) environment["SBXFS_HOST_KEY_LOG"] = "1";
    return environment;
}

aws::Tags TagsFor(const LaunchParts& parts) {
    const LaunchSpec& spec = parts.spec;
    aws::Tags tags = parts.settings.tags;
    tags[kMountTag] = parts.owner.mount_id;
    tags[kTokenTag] = parts.client_token;
    tags[kNameTag] = TagValue(spec.name.full);
    tags[kGenerationTag] = ToString(spec.generation);
    tags[kOwnerTag] = TagValue(parts.owner.who);
    if (spec.what.max_lifetime_s > 0)
        tags[kExpiryTag] = Rfc3339(FromEpochMs(spec.created_ms + spec.what.max_lifetime_s * 1000));
    return tags;
}

}  // namespace

std::string ClientTokenFor(const LaunchSpec& spec) {
    return spec.token + "-" + aws::Sha256Hex(spec.client_key).substr(0, 12);
}

std::string ProofFor(const Secret& mount_secret, const std::string& client_token) {
    return Hex(aws::HmacSha256(mount_secret, "sandbox " + client_token).Reveal()).substr(0, 32);
}

std::string TagValue(std::string_view text) {
    std::string value(text.substr(0, 256));
    constexpr std::string_view kMarks = " +-=._:/@";
    std::replace_if(
        value.begin(), value.end(),
        [&](char c) {
            const bool word =
                (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
            return !word && kMarks.find(c) == std::string_view::npos;
        },
        '_');
    return value;
}

Result<aws::RunTaskRequest> MakeRunTaskRequest(const LaunchParts& parts) {
    const FargateSettings& settings = parts.settings;
    aws::RunTaskRequest request;
    request.client_token = parts.client_token;
    request.started_by = parts.client_token;
    request.cluster = settings.cluster;
    request.task_definition = parts.task_definition;
    request.platform_version = settings.platform_version;
    request.capacity_provider = settings.capacity_provider;
    request.subnets = settings.subnets;
    request.security_groups = settings.security_groups;
    request.assign_public_ip = settings.assign_public_ip;
    request.enable_execute_command = settings.enable_execute_command;
    // Of a cloned base the definition has the sizes: the larger of what it had and what is asked for.
    if (settings.task_definition.empty()) {
        request.cpu = std::to_string(settings.size.cpu);
        request.memory = std::to_string(settings.size.memory);
        request.ephemeral_storage_gib = settings.ephemeral_storage_gib;
    }
    request.task_role_arn = settings.task_role_arn;
    request.execution_role_arn = settings.execution_role_arn;
    request.tags = TagsFor(parts);
    aws::ContainerOverride container{settings.container_name, EnvironmentFor(parts), {}, {}};
    if (!parts.host_key_file_arn.empty()) container.environment_files = {parts.host_key_file_arn};
    request.containers = {std::move(container)};

    const std::size_t length = aws::OverridesJson(request).Dump().size();
    if (length > aws::kLargestOverrides)
        return Error(Errno{E2BIG}, "the sandbox's own settings take " + std::to_string(length) +
                                       " characters and ECS takes " +
                                       std::to_string(aws::kLargestOverrides) +
                                       ": shorten `workdir`");
    return request;
}

}  // namespace sbxfs
