// How much may be fetched ahead of somebody who may not want it. Pure: grows as what was fetched is used, a
// little when somebody has to wait for what was not, shrinks as it is not used. Of one kind of thing (listings, files) of one sandbox; not locked.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "base/clock.h"
#include "sandbox/sandbox_metrics.h"

namespace sbxfs {

class AheadWindow {
 public:
    struct Limits {
        std::size_t first = 16;
        std::size_t least = 4;
        std::size_t most = 1024;
        std::size_t first_bytes = 1U << 20;
        std::size_t most_bytes = 32U << 20;
    };
    struct Counters {
        std::uint64_t begun = 0;
        std::uint64_t used = 0;
        std::uint64_t wasted = 0;
    };
    AheadWindow(AheadKind kind, Limits limits)
        : kind_(static_cast<std::size_t>(kind)),
          limits_(limits),
          room_(limits.first),
          room_bytes_(limits.first_bytes) {}

    // Whether one more of so many bytes may be fetched now.
    bool Fits(std::size_t bytes) const {
        return ahead_.size() < room_ && (bytes_ == 0 || bytes_ + bytes <= room_bytes_);
    }
    bool Has(const std::string& what) const { return ahead_.contains(what); }
    void Begin(const std::string& what, std::size_t bytes, SteadyTime now) {
        ++counters_.begun;
        sandbox_metrics.ahead_begun.AddTo(kind_);
        if (ahead_.emplace(what, Ahead{bytes, now}).second) bytes_ += bytes;
    }
    // Somebody wanted it. False: it was not fetched ahead, or somebody had it before.
    bool Use(const std::string& what) {
        if (!Drop(what)) return false;
        ++counters_.used;
        sandbox_metrics.ahead_used.AddTo(kind_);
        room_ = std::min(room_ * 2, limits_.most);
        room_bytes_ = std::min(room_bytes_ * 2, limits_.most_bytes);
        return true;
    }
    // Somebody in a walk has to wait: what was fetched and is not used yet was not it. Where that has all the room, what is
    // wanted next gets some of it.
    void Missed() {
        room_ = std::min(room_ + kMissed, limits_.most);
        room_bytes_ = std::min(room_bytes_ + limits_.first_bytes / 2, limits_.most_bytes);
        for (std::size_t i = 0; i < kMissed && !ahead_.empty() && ahead_.size() + kMissed > room_;
             ++i) {
            const auto oldest = std::min_element(ahead_.begin(), ahead_.end(),
                                                 [](const auto& one, const auto& other) {
                                                     return one.second.since < other.second.since;
                                                 });
            bytes_ -= oldest->second.bytes;
            ahead_.erase(oldest);
        }
    }
    // It came to nothing.
    bool Drop(const std::string& what) {
        const auto it = ahead_.find(what);
        if (it == ahead_.end()) return false;
        bytes_ -= it->second.bytes;
        ahead_.erase(it);
        return true;
    }
    // Gives up on what nobody wanted for so long, or for an eighth longer.
    void Expire(SteadyTime now, Duration life) {
        if (now - looked_through_ < life / 8) return;
        looked_through_ = now;
        const std::size_t before = ahead_.size();
        std::erase_if(ahead_, [&](const auto& item) {
            if (now - item.second.since < life) return false;
            bytes_ -= item.second.bytes;
            return true;
        });
        const std::size_t expired = before - ahead_.size();
        if (expired == 0) return;
        counters_.wasted += expired;
        sandbox_metrics.ahead_unused.AddTo(kind_, expired);
        room_ = std::max(room_ / 2, limits_.least);
        room_bytes_ = std::max(room_bytes_ / 2, limits_.first_bytes / 4);
    }
    // All of it is of no use any more, by nobody's fault.
    void Forget() {
        ahead_.clear();
        bytes_ = 0;
    }

    std::size_t size() const { return ahead_.size(); }
    const Counters& counters() const { return counters_; }

 private:
    static constexpr std::size_t kMissed = 8;
    struct Ahead {
        std::size_t bytes = 0;
        SteadyTime since{};
    };

    const std::size_t kind_;
    const Limits limits_;
    std::size_t room_;
    std::size_t room_bytes_;
    std::map<std::string, Ahead> ahead_;
    std::size_t bytes_ = 0;
    SteadyTime looked_through_{};  // for what has been there for too long
    Counters counters_;
};

}  // namespace sbxfs
