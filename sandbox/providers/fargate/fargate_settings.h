// The options of a template with backend `fargate`, read and checked (docs/fargate.md explains each). Names are those of
// the systems that sbxfs takes over from, where they agree.
//
//   aws_region, aws_profile, aws_role_arn, aws_external_id, aws_role_session_name, aws_endpoint_url
//   ecs_cluster = "sandboxes"                   required
//   subnets = ["subnet-..."]                    required; or SBXFS_FARGATE_SUBNETS, comma-separated, which wins
//   security_groups = ["sg-..."]                or SBXFS_FARGATE_SECURITY_GROUPS
//   assign_public_ip = true                     default true
//   address = "auto" | "public" | "private"     where sshd is dialled; auto: the public one where there is one
//   task_definition = "family[:revision]"       a base to clone; absent: from scratch
//   task_definition_family_prefix = "sbxfs"
//   container_name = "main"
//   image_template = "repo/{name}:{id}"         in place of `image`
//   bootstrap = false                           the image has no sshd: it is installed at start
//   ephemeral_storage_gib, platform_version, execution_role_arn, task_role_arn, log_group, log_stream_prefix
//   secrets = ["NAME=arn:..."]                  environment of the container, by reference
//   capacity_provider = "FARGATE_SPOT"          absent: launch type FARGATE
//   enable_execute_command = false
//   ssh_port = 22, ssh_user = "root"
//   host_key = "shared" | "s3" | "logs" | "override"
//   host_key_secret = "arn or name", host_key_bucket = "bucket", host_key_prefix = "sbxfs/"
//   tags = ["team=lab"]
//   startup_timeout = 300                       seconds until RUNNING
//   price_vcpu_hour, price_gb_hour              US dollars as strings; fargate_price.h reads them
//
// Pure: no AWS is asked, since Check runs on a FUSE thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "aws/shared_config.h"
#include "base/result.h"
#include "sandbox/template.h"

namespace sbxfs {

enum class HostKeyMode { kShared, kS3, kLogs, kOverride };
std::string_view ToString(HostKeyMode mode);

enum class AddressChoice { kAuto, kPublic, kPrivate };

// With whom, where and as whom AWS is spoken to: what sandboxes share whose calls go through one client.
struct FargateAccount {
    std::string region;  // empty: as the AWS tools find it
    std::string profile;
    std::string role_arn;
    std::string external_id;
    std::string role_session_name;
    std::string endpoint_url;

    auto operator<=>(const FargateAccount&) const = default;
};

// CPU units and MiB, one of the pairs that Fargate has.
struct TaskSize {
    std::int64_t cpu = 0;
    std::int64_t memory = 0;
    bool operator==(const TaskSize&) const = default;
};

// The smallest legal pair that has both; EINVAL naming the legal ones when there is none. 0: the default, 256 and 512.
Result<TaskSize> FitTaskSize(std::int64_t cpu, std::int64_t memory);

struct FargateSettings {
    FargateAccount account;
    std::string cluster;
    std::vector<std::string> subnets;
    std::vector<std::string> security_groups;
    bool assign_public_ip = true;
    AddressChoice address = AddressChoice::kAuto;

    std::string task_definition;
    std::string family_prefix = "sbxfs";
    std::string container_name = "main";
    std::string image;  // may hold {name} and {id}
    bool bootstrap = false;
    TaskSize size;
    std::optional<int> ephemeral_storage_gib;
    std::string platform_version;
    std::string execution_role_arn;
    std::string task_role_arn;
    std::string log_group;
    std::string log_stream_prefix = "sbxfs";
    std::map<std::string, std::string> secrets;  // variable -> ARN
    std::string capacity_provider;
    bool enable_execute_command = false;

    std::uint16_t ssh_port = 22;
    std::string ssh_user = "root";
    HostKeyMode host_key = HostKeyMode::kOverride;
    std::string host_key_secret;
    std::string host_key_bucket;
    std::string host_key_prefix = "sbxfs/";
    std::map<std::string, std::string> tags;
    std::int64_t startup_timeout_s = 300;
};

// EINVAL names the option, an unknown one together with the nearest that exists.
Result<FargateSettings> ReadFargateSettings(const Template& what,
                                            const aws::Environment& environment);

}  // namespace sbxfs
