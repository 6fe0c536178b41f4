// What a sandbox of a template costs by the hour, as far as its size says: an estimate for people, from list prices that the
// configuration can replace. Pure.
#pragma once

#include <optional>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "sandbox/template.h"

namespace sbxfs {

struct FargatePrice {
    double vcpu_hour = 0;  // USD
    double gb_hour = 0;
    double hour = 0;      // of the whole sandbox
    std::string assumes;  // for people: which prices, and what is left out
};

// AWS's on-demand list prices for Linux on x86 in us-east-1; price_vcpu_hour and price_gb_hour are for other places,
// architectures and contracts.
inline constexpr const char* kListVcpuHour = "0.04048";
inline constexpr const char* kListGbHour = "0.004445";
inline constexpr int kLeastBilledSeconds = 60;

// EINVAL: a price that is no number, or a size that Fargate does not have.
Result<FargatePrice> PriceOf(const Template& what);

// For info.json. From mkdir on, which is a little before AWS counts.
Json CostJson(const FargatePrice& price, std::int64_t created_ms, std::int64_t until_ms);

}  // namespace sbxfs
