// Which region is spoken to, and at which address a service answers there. Pure; any thread.
//
// Partitions and their suffixes: "AWS service endpoints", AWS General Reference.
#pragma once

#include <string>
#include <string_view>

#include "aws/shared_config.h"
#include "base/result.h"

namespace sbxfs::aws {

struct Partition {
    std::string_view name;        // "aws", "aws-cn", ...: the second part of every ARN
    std::string_view dns_suffix;  // "amazonaws.com"
};
Partition PartitionOf(std::string_view region);

// What a service is called in the different places where it is named.
struct ServiceNames {
    std::string_view endpoint;  // of its host: "ecs", "secretsmanager"
    std::string_view signing;   // in the signature's scope
    std::string_view
        environment;  // of AWS_ENDPOINT_URL_...: "SECRETS_MANAGER"; lower case in a [services] section
};
inline constexpr ServiceNames kEcs{"ecs", "ecs", "ECS"};
inline constexpr ServiceNames kEc2{"ec2", "ec2", "EC2"};
inline constexpr ServiceNames kSts{"sts", "sts", "STS"};
inline constexpr ServiceNames kSecretsManager{"secretsmanager", "secretsmanager",
                                              "SECRETS_MANAGER"};
inline constexpr ServiceNames kLogs{"logs", "logs", "CLOUDWATCH_LOGS"};
inline constexpr ServiceNames kIam{"iam", "iam", "IAM"};  // one for all regions of a partition
inline constexpr ServiceNames kSimpleStorage{"s3", "s3", "S3"};

// `wanted`, else AWS_REGION, AWS_DEFAULT_REGION, the profile's. EINVAL when none is set or it is no region's name: it
// becomes part of a host name.
Result<std::string> ResolveRegion(std::string_view wanted, const Environment& environment,
                                  const Profile* profile);

// Without a '/' at the end. In this order: `wanted` (from our own configuration), AWS_ENDPOINT_URL_<SERVICE>,
// AWS_ENDPOINT_URL, the profile's [services] section, its endpoint_url, the service's public address. The environment's
// and the profile's do not count when AWS_IGNORE_CONFIGURED_ENDPOINT_URLS is true.
Result<std::string> ResolveEndpoint(const ServiceNames& service, std::string_view region,
                                    std::string_view wanted, const Environment& environment,
                                    const SharedConfig& shared, const Profile* profile);

}  // namespace sbxfs::aws
