// What is kept of an output stream that has a limit: its first bytes and the newest. The supervisor cuts
// its spool by this rule and the daemon cuts its copy by it, so that both keep the same bytes. Pure and
// freestanding, shared by both programs.
#pragma once

#include <stdint.h>

namespace sbxfs::supervisor {

inline constexpr uint64_t kKeptHead = 1U << 20;

struct Hole {
    uint64_t from = 0;
    uint64_t to = 0;
};

// What may go when `size` bytes were written under `limit` (0: none): whole pages after the head, or half
// the limit where that is smaller, and before the newest rest. Empty (from == to) while nothing needs to.
constexpr Hole HoleFor(uint64_t size, uint64_t limit) {
    constexpr uint64_t kPage = 4096;
    if (limit == 0 || size <= limit) return {};
    const uint64_t head = limit >= 2 * kKeptHead ? kKeptHead : (limit / 2) & ~(kPage - 1);
    const uint64_t to = (size - (limit - head)) & ~(kPage - 1);
    return to > head ? Hole{head, to} : Hole{};
}

}  // namespace sbxfs::supervisor
