// The keys of the configuration file: one table for the check of a file and for sbxfs.toml(5). What only one
// backend has is in sandbox/backends.h.
#pragma once

#include <string_view>
#include <vector>

#include "sandbox/backends.h"

namespace sbxfs {

const std::vector<FileKey>& TopKeys();
const std::vector<FileKey>& TemplateKeys();
const std::vector<FileKey>& ProviderKeys();

}  // namespace sbxfs
