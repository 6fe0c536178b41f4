#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace sbxfs {

void CheckFailed(const char* expression, const char* file, int line) {
    // Not through the log: it may be the log that is broken.
    (void)std::fprintf(stderr, "sbxfs: bug: %s:%d: CHECK(%s) failed\n", file, line, expression);
    std::abort();
}

}  // namespace sbxfs
