// The kinds of provider there are, and the configuration keys each takes beyond those every template
// has. A table; the providers themselves check the values.
#pragma once

#include <string_view>
#include <vector>

#include "sandbox/template.h"

namespace sbxfs {

std::vector<std::string_view> BackendNames();
// Keys of [providers.NAME] and [templates.NAME] that only this backend knows. Empty for an unknown one.
std::vector<std::string_view> BackendOptions(std::string_view backend);
// What a template of this backend has before its own keys are read, where that differs from what every
// template has. An empty workdir must be given.
void ApplyBackendDefaults(Template& what);

}  // namespace sbxfs
