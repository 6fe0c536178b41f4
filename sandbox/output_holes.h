// The parts of an output stream that are not kept: cut out of the middle by the limit, lost in the sandbox,
// or given up when the mount's limit was reached. Offsets in a stream are true all the same: what is not kept
// reads as zeros and is counted. Values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace sbxfs {

struct OutputHole {
    std::uint64_t from = 0;
    std::uint64_t to = 0;
    friend bool operator==(const OutputHole&, const OutputHole&) = default;
};
using OutputHoles = std::vector<OutputHole>;  // ascending, apart from each other

// Adds a hole; what touches becomes one.
inline void AddHole(OutputHoles& holes, OutputHole added) {
    if (added.from >= added.to) return;
    OutputHoles merged;
    for (const OutputHole& hole : holes) {
        if (hole.to < added.from || hole.from > added.to) {
            merged.push_back(hole);
        } else {
            added = {std::min(hole.from, added.from), std::max(hole.to, added.to)};
        }
    }
    merged.push_back(added);
    std::sort(merged.begin(), merged.end(),
              [](const OutputHole& a, const OutputHole& b) { return a.from < b.from; });
    holes = std::move(merged);
}

// Bytes of [from, to) that are not kept.
inline std::uint64_t DroppedBytes(const OutputHoles& holes, std::uint64_t from = 0,
                                  std::uint64_t to = UINT64_MAX) {
    std::uint64_t dropped = 0;
    for (const OutputHole& hole : holes) {
        const std::uint64_t begin = std::max(hole.from, from);
        const std::uint64_t end = std::min(hole.to, to);
        if (begin < end) dropped += end - begin;
    }
    return dropped;
}

}  // namespace sbxfs
