// The program that is PID 1 of every local sandbox: sbxfs-supervisor, carried inside this one, put
// on disk once per state directory under its hash so that all sandboxes share its pages. Helper
// only.
#pragma once

#include <string>

#include "base/result.h"

namespace sbxfs {

// The path of the program for this machine; made when missing. EOPNOTSUPP where none is carried.
Result<std::string> InstallInitProgram(const std::string& state_dir);

// "x86_64" or "aarch64" (uname(2)) when a program for it is carried.
Status CheckMachine();

}  // namespace sbxfs
