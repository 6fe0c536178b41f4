#include "aws/retry.h"

#include <algorithm>
#include <cmath>

namespace sbxfs::aws {
namespace {

// Throttling needs longer pauses than a broken connection.
constexpr double kFirstPauseS = 0.1;
constexpr double kFirstThrottledPauseS = 0.5;
constexpr double kLongestPauseS = 20;

bool Repeatable(const Attempt& attempt) {
    switch (attempt.kind) {
        case FailureKind::kThrottled:
            return true;  // refused before anything was done
        case FailureKind::kTransient:
            return attempt.sent == Sent::kNo || attempt.repeat == Repeat::kSafe;
        case FailureKind::kExpired:    // with fresh credentials, by the caller's own rule
        case FailureKind::kClockSkew:  // with the corrected clock, likewise
        case FailureKind::kCredentials:
        case FailureKind::kDenied:
        case FailureKind::kConflict:
        case FailureKind::kNotFound:
        case FailureKind::kQuota:
        case FailureKind::kCapacity:  // the launch waits by its own clock
        case FailureKind::kInvalid:
        case FailureKind::kOther:
            return false;
    }
    return false;
}

}  // namespace

bool RetryBudget::Spend() {
    if (left_ < kPrice) return false;
    left_ -= kPrice;
    return true;
}

void RetryBudget::Earn(bool was_retry) {
    left_ = std::min(kCapacity, left_ + (was_retry ? kPrice : 1));
}

std::optional<Duration> RetryAfter(const Attempt& attempt, RetryBudget& budget, double random) {
    if (attempt.number >= kMaxAttempts || !Repeatable(attempt) || !budget.Spend())
        return std::nullopt;
    const double first =
        attempt.kind == FailureKind::kThrottled ? kFirstThrottledPauseS : kFirstPauseS;
    const double longest = std::min(kLongestPauseS, first * std::exp2(attempt.number - 1));
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(random * longest));
}

}  // namespace sbxfs::aws
