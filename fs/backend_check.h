// What the provider of a template would refuse about its settings, said when the configuration is read
// rather than at the first mkdir. Only what can be told without looking at the machine.
#pragma once

#include "base/result.h"
#include "sandbox/template.h"

namespace sbxfs {

// EINVAL in the provider's words.
Status CheckBackendSettings(const Template& what);

}  // namespace sbxfs
