// The first line of a script that names its interpreter, read as the kernel reads it, since a
// script in a spool on a noexec mount cannot be executed itself. Pure.
#pragma once

#include "sandbox/supervisor/bytes.h"

namespace sbxfs::supervisor {

struct Shebang {
    View interpreter;  // absolute
    View argument;     // all that follows, as one; often empty
};

// False when the script has no such line. A carriage return at the line's end is left out, which
// the kernel would take as part of the name.
bool ParseShebang(View script, Shebang* to);

}  // namespace sbxfs::supervisor
