// What .mount/new takes: `name=b1 template=py cpu=1024`, or one JSON object with such members. Pure.
#pragma once

#include <string>
#include <string_view>

#include "fs/config.h"

namespace sbxfs {

struct NewOrder {
    std::string name;  // empty: any that is free
    Template what;
};

// Keys are `name`, `template` and those of a template; `env.NAME` in the first form, an object `env` in the second.
// EINVAL naming the key that is wrong and the nearest known one; ENOENT for a template that is not there.
Result<NewOrder> ParseNewOrder(const Config& config, std::string_view text);

}  // namespace sbxfs
