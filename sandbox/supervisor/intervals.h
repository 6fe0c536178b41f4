// A set of numbers kept as intervals: command numbers come almost in order, so thousands fit into a
// few. Pure.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/bytes.h"

namespace sbxfs::supervisor {

class Intervals {
 public:
    bool Has(uint64_t n) const {
        for (const Interval& interval : all_) {
            if (n >= interval.first && n <= interval.last) return true;
        }
        return false;
    }

    void Add(uint64_t n) {
        size_t at = 0;
        while (at < all_.size() && all_[at].last < n)
            ++at;
        if (at < all_.size() && all_[at].first <= n) return;
        const bool joins_left = at > 0 && all_[at - 1].last == n - 1;
        const bool joins_right = at < all_.size() && all_[at].first == n + 1;
        if (joins_left && joins_right) {
            all_[at - 1].last = all_[at].last;
            all_.Remove(at);
        } else if (joins_left) {
            all_[at - 1].last = n;
        } else if (joins_right) {
            all_[at].first = n;
        } else {
            all_.Insert(at, {n, n});
        }
    }

    size_t Count() const { return all_.size(); }

 private:
    struct Interval {
        uint64_t first;
        uint64_t last;
    };
    Vec<Interval> all_;  // ascending, with gaps between them
};

}  // namespace sbxfs::supervisor
