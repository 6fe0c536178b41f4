// Whether a sandbox could be launched with these settings: everything a launch does is done once, on the
// real machine, and taken away again.
#pragma once

#include "sandbox/doctor.h"
#include "sandbox/providers/ssh/ssh_settings.h"
#include "sandbox/template.h"

namespace sbxfs {

void ExamineSsh(const Template& what, const SshSelf& self, const Tell& tell);

}  // namespace sbxfs
