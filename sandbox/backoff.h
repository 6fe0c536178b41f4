// How long to wait before the next try.
#pragma once

#include <algorithm>

#include "base/clock.h"
#include "base/files.h"

namespace sbxfs {

// 50 ms, doubled for each failure, at most `longest`, a quarter more or less so that many do not
// come at once.
inline Duration Backoff(int failures, Duration longest) {
    constexpr Duration kFirst = std::chrono::milliseconds(50);
    const Duration plain = std::min(longest, kFirst * (1 << std::clamp(failures - 1, 0, 10)));
    return plain * 3 / 4 + plain / 2 * static_cast<Duration::rep>(RandomNumber() % 1000) / 1000;
}

}  // namespace sbxfs
