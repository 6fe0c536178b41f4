// When a failed call is made again, and after how long. Pure: time and randomness are given. One owner.
//
// Back-off with full jitter: "Exponential Backoff And Jitter", AWS Architecture Blog. The budget and its prices are those
// of the AWS SDKs' standard retry mode, so that an outage is not answered with a multiple of the usual load.
#pragma once

#include <optional>

#include "aws/failure.h"
#include "aws/http.h"
#include "base/clock.h"

namespace sbxfs::aws {

// Whether a call may be made twice. kSafe: it only asks, or carries a token by which the service knows it again.
enum class Repeat { kSafe, kNever };

class RetryBudget {
 public:
    // False when there is not enough left: the failure is then final.
    bool Spend();
    // A call that went through gives some back.
    void Earn(bool was_retry);

 private:
    static constexpr int kCapacity = 500;
    static constexpr int kPrice = 5;
    int left_ = kCapacity;
};

struct Attempt {
    int number = 1;  // how many were made
    FailureKind kind = FailureKind::kOther;
    Sent sent = Sent::kMaybe;
    Repeat repeat = Repeat::kNever;
};

inline constexpr int kMaxAttempts = 8;

// The pause before the next try; nothing when there shall be none. `random` is in [0, 1).
std::optional<Duration> RetryAfter(const Attempt& attempt, RetryBudget& budget, double random);

}  // namespace sbxfs::aws
