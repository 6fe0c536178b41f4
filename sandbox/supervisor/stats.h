// What lstat(2) and statx(2) say of a path or of an open file, as the daemon is told of it.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/bytes.h"
#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {

// What makes a path no question, as an errno; 0: it is one.
uint32_t WhyNoPath(View path);

StatFields FieldsOf(const struct stat& stat);
// Links are not followed.
StatFields StatOf(View path);
StatFields StatOfFd(int fd);

}  // namespace sbxfs::supervisor
