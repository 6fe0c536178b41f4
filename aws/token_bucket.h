// A rate limit kept on our side, so that a burst of launches waits here instead of being throttled there, where every
// refused call counts against the account. Pure: time is given. One owner.
#pragma once

#include <algorithm>

#include "base/clock.h"

namespace sbxfs::aws {

class TokenBucket {
 public:
    // `burst` tokens at first and at most; `per_second` come back.
    TokenBucket(double burst, double per_second)
        : burst_(burst), per_second_(per_second), tokens_(burst) {}

    // Takes one token: zero. Where none is there: how long until there is one, and nothing is taken; none is promised to
    // anybody, because the rate may change meanwhile.
    Duration Take(SteadyTime now) {
        Refill(now);
        if (tokens_ > 1 - kRounding) {
            tokens_ -= 1;
            return Duration::zero();
        }
        return std::chrono::duration_cast<Duration>(
            std::chrono::duration<double>((1 - tokens_) / rate()));
    }

    // The other side says that we are too fast: slower for a while. Halves the rate, at least a twentieth of it stays.
    // What it says of others that were on their way by then is no news.
    void Throttled(SteadyTime now) {
        Refill(now);
        tokens_ = std::min(tokens_, 0.0);
        if (throttled_ != SteadyTime{} && now - throttled_ < kEpisode) return;
        throttled_ = now;
        factor_ = std::max(factor_ / 2, 0.05);
    }
    // An answer without throttling: back to the full rate bit by bit.
    void Accepted() { factor_ = std::min(1.0, factor_ * 1.05); }

    double rate() const { return per_second_ * factor_; }

 private:
    static constexpr double kRounding = 1e-6;
    static constexpr Duration kEpisode = std::chrono::seconds(1);

    void Refill(SteadyTime now) {
        if (last_ != SteadyTime{} && now > last_) {
            const double seconds = std::chrono::duration<double>(now - last_).count();
            tokens_ = std::min(burst_, tokens_ + seconds * rate());
        }
        last_ = now;
    }

    const double burst_;
    const double per_second_;
    double factor_ = 1;
    double tokens_;
    SteadyTime last_{};
    SteadyTime throttled_{};
};

}  // namespace sbxfs::aws
