#include "aws/endpoint.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "aws/url.h"
#include "base/strings.h"

namespace sbxfs::aws {
namespace {

struct PartitionRow {
    std::string_view prefix;
    Partition partition;
};

// The longer prefix first.
constexpr std::array kPartitions = {
    PartitionRow{"cn-", {"aws-cn", "amazonaws.com.cn"}},
    PartitionRow{"us-gov-", {"aws-us-gov", "amazonaws.com"}},
    PartitionRow{"us-isob-", {"aws-iso-b", "sc2s.sgov.gov"}},
    PartitionRow{"us-isof-", {"aws-iso-f", "csp.hci.ic.gov"}},
    PartitionRow{"eu-isoe-", {"aws-iso-e", "cloud.adc-e.uk"}},
    PartitionRow{"us-iso-", {"aws-iso", "c2s.ic.gov"}},
    PartitionRow{"eusc-", {"aws-eusc", "amazonaws.eu"}},
};

bool IsRegion(std::string_view name) {
    const bool fits =
        !name.empty() && name.size() <= 40 && name.front() != '-' && name.back() != '-';
    return fits && std::all_of(name.begin(), name.end(), [](char c) {
               return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
           });
}

std::string Lower(std::string_view text) {
    std::string lower(text);
    std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
        return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    });
    return lower;
}

std::string Configured(const ServiceNames& service, const Environment& environment,
                       const SharedConfig& shared, const Profile* profile) {
    if (Lower(Lookup(environment, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")) == "true") return "";
    const std::string own =
        Lookup(environment, "AWS_ENDPOINT_URL_" + std::string(service.environment));
    if (!own.empty()) return own;
    const std::string all = Lookup(environment, "AWS_ENDPOINT_URL");
    if (!all.empty() || profile == nullptr) return all;
    const auto services = shared.services.find(profile->Get("services"));
    if (services != shared.services.end()) {
        const std::string nested =
            services->second.Get(Lower(service.environment) + ".endpoint_url");
        if (!nested.empty()) return nested;
    }
    return profile->Get("endpoint_url");
}

}  // namespace

Partition PartitionOf(std::string_view region) {
    const auto row =
        std::find_if(kPartitions.begin(), kPartitions.end(),
                     [&](const PartitionRow& r) { return region.starts_with(r.prefix); });
    return row == kPartitions.end() ? Partition{"aws", "amazonaws.com"} : row->partition;
}

Result<std::string> ResolveRegion(std::string_view wanted, const Environment& environment,
                                  const Profile* profile) {
    std::string region(wanted);
    if (region.empty()) region = Lookup(environment, "AWS_REGION");
    if (region.empty()) region = Lookup(environment, "AWS_DEFAULT_REGION");
    if (region.empty() && profile != nullptr) region = profile->Get("region");
    if (region.empty())
        return Error(Errno{EINVAL},
                     "no AWS region is set: write aws_region = \"us-east-1\" into the provider's "
                     "settings, or set AWS_REGION");
    if (!IsRegion(region))
        return Error(Errno{EINVAL}, "\"" + Printable(region, 60) +
                                        "\" is not the name of an AWS region, such as us-east-1");
    return region;
}

Result<std::string> ResolveEndpoint(const ServiceNames& service, std::string_view region,
                                    std::string_view wanted, const Environment& environment,
                                    const SharedConfig& shared, const Profile* profile) {
    std::string text(wanted);
    if (text.empty()) text = Configured(service, environment, shared, profile);
    // IAM has no regions; its commercial address is the odd one without any.
    if (text.empty() && service.endpoint == kIam.endpoint && PartitionOf(region).name == "aws")
        return std::string("https://iam.amazonaws.com");
    if (text.empty())
        return "https://" + std::string(service.endpoint) + "." + std::string(region) + "." +
               std::string(PartitionOf(region).dns_suffix);
    const auto url = ParseUrl(text);
    if (!url) return url.error().While("reading the endpoint of " + std::string(service.endpoint));
    if (!url->query.empty())
        return Error(Errno{EINVAL}, "the endpoint \"" + Printable(text) +
                                        "\" has a '?': it must be an address and perhaps a path");
    std::string path = url->path;
    while (path.ends_with('/'))
        path.pop_back();
    return url->Origin() + path;
}

}  // namespace sbxfs::aws
