// Stories of a supervisor, told step by step each time it has come to rest.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/fuzz/world.h"

namespace sbxfs::fuzz {

using Steps = std::vector<std::function<void()>>;

// One life with these steps; its exit code, -1: it was still alive at their end, or was killed.
inline int Tell(World& world, const Steps& steps) {
    std::size_t at = 0;
    world.next = [&] {
        if (at >= steps.size()) return false;
        steps[at++]();
        return true;
    };
    const int code = world.Live();
    world.next = nullptr;
    return code;
}

struct Story {
    const char* name;
    std::function<void(World&)> tell;
};
const std::vector<Story>& AllStories();

}  // namespace sbxfs::fuzz
