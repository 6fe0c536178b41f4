#include "sandbox/providers/fargate/fargate_price.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/strings.h"
#include "sandbox/providers/fargate/fargate_settings.h"

namespace sbxfs {
namespace {

constexpr double kDearest = 1000;  // of an hour: beyond that somebody mistyped

// As it is written: "0.04048".
Result<std::string> Written(const Template& what, const std::string& key, const char* otherwise) {
    const auto option = what.options.find(key);
    if (option == what.options.end()) return std::string(otherwise);
    if (const auto* whole = std::get_if<std::int64_t>(&option->second);
        whole != nullptr && *whole >= 0 && static_cast<double>(*whole) <= kDearest)
        return std::to_string(*whole);
    const auto* text = std::get_if<std::string>(&option->second);
    double value = -1;
    if (text != nullptr) {
        const char* end = text->data() + text->size();
        const auto parsed = std::from_chars(text->data(), end, value, std::chars_format::fixed);
        if (parsed.ec != std::errc() || parsed.ptr != end) value = -1;
    }
    if (!(value >= 0 && value <= kDearest))
        return Error(Errno{EINVAL}, "`" + key + "` must be a price in US dollars, as a string: \"" +
                                        std::string(otherwise) + "\"");
    return *text;
}

double Number(const std::string& written) {
    double value = 0;
    (void)std::from_chars(written.data(), written.data() + written.size(), value);
    return value;
}

// Millionths of a dollar are enough for anybody.
Json Dollars(double value) {
    return Json::Real(std::round(value * 1e6) / 1e6);
}

}  // namespace

Result<FargatePrice> PriceOf(const Template& what) {
    const std::string vcpu = TRY(Written(what, "price_vcpu_hour", kListVcpuHour));
    const std::string gb = TRY(Written(what, "price_gb_hour", kListGbHour));
    const TaskSize size = TRY(FitTaskSize(what.cpu, what.memory));
    FargatePrice price;
    price.vcpu_hour = Number(vcpu);
    price.gb_hour = Number(gb);
    price.hour = price.vcpu_hour * static_cast<double>(size.cpu) / 1024 +
                 price.gb_hour * static_cast<double>(size.memory) / 1024;
    const bool listed = vcpu == kListVcpuHour && gb == kListGbHour;
    price.assumes =
        vcpu + " USD a vCPU-hour and " + gb + " USD a GB-hour (" +
        (listed ? "the on-demand list price for Linux on x86 in us-east-1; set "
                  "price_vcpu_hour and price_gb_hour for another"
                : "as configured") +
        "), by the second from mkdir on, one minute at least; without storage beyond "
        "20 GiB, public addresses, traffic, logs, and what Spot or a contract takes off";
    return price;
}

Json CostJson(const FargatePrice& price, std::int64_t created_ms, std::int64_t until_ms) {
    const double seconds = std::max<double>(
        kLeastBilledSeconds, std::floor(static_cast<double>(until_ms - created_ms) / 1000));
    return Json::Object()
        .Set("estimated", true)
        .Set("currency", "USD")
        .Set("per_hour", Dollars(price.hour))
        .Set("so_far", Dollars(price.hour * seconds / 3600))
        .Set("assumes", price.assumes);
}

}  // namespace sbxfs
