#include "aws/timestamp.h"

#include <time.h>

#include <algorithm>
#include <string_view>

#include "base/strings.h"

namespace sbxfs::aws {
namespace {

// "Z", "+hh:mm" or "+hhmm" as seconds east of Greenwich.
std::optional<int> OffsetSeconds(std::string_view text) {
    if (text == "Z" || text == "z") return 0;
    if (text.size() < 5 || (text[0] != '+' && text[0] != '-')) return std::nullopt;
    const auto hours = ParseNumber<unsigned>(text.substr(1, 2));
    const auto minutes = ParseNumber<unsigned>(text.substr(text[3] == ':' ? 4 : 3));
    if (!hours || !minutes || *hours > 23 || *minutes > 59) return std::nullopt;
    const int seconds = static_cast<int>(*hours * 3600 + *minutes * 60);
    return text[0] == '-' ? -seconds : seconds;
}

}  // namespace

std::optional<SystemTime> ParseIso8601(const std::string& text) {
    std::tm parts{};
    const char* rest = ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
    if (rest == nullptr) return std::nullopt;
    std::string_view tail(rest);
    if (tail.starts_with('.'))
        tail.remove_prefix(std::min(tail.find_first_not_of("0123456789", 1), tail.size()));
    const auto offset = OffsetSeconds(tail);
    if (!offset) return std::nullopt;
    // Some tools write the year 9999 for "never"; the clock's nanoseconds end in 2262.
    constexpr std::time_t kLatest = 7258118400;  // 2200-01-01
    const std::time_t seconds = ::timegm(&parts) - *offset;
    return std::chrono::system_clock::from_time_t(std::clamp(seconds, std::time_t{0}, kLatest));
}

}  // namespace sbxfs::aws
