// The kinds of provider there are, and the configuration keys each takes beyond those every template
// has. A table; the providers themselves check the values.
#pragma once

#include <string_view>
#include <vector>

#include "sandbox/template.h"

namespace sbxfs {

std::vector<std::string_view> BackendNames();

// A key of the configuration: its default, or an example where there is none, and what it says.
struct FileKey {
    std::string_view name;
    std::string_view form;
    std::string_view text;
};
std::vector<std::string_view> NamesOf(const std::vector<FileKey>& keys);
// Keys of [providers.NAME] and [templates.NAME] that only this backend knows. Empty for an unknown one.
const std::vector<FileKey>& BackendOptions(std::string_view backend);
// Whether somebody is paid for as long as such a sandbox is there.
bool IsPaid(std::string_view backend);
// What a template of this backend has before its own keys are read, where that differs from what every
// template has. An empty workdir must be given.
void ApplyBackendDefaults(Template& what);

}  // namespace sbxfs
