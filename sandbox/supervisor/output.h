// One output stream of a command, read from its file: how much there is, how much was pushed to the
// daemon, what was punched out of the middle because of the output limit.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/files.h"
#include "sandbox/supervisor/output_limit.h"

namespace sbxfs::supervisor {

struct OutputStream {
    Fd file;
    uint64_t size = 0;  // when it was last looked at
    uint64_t pushed = 0;
    Hole hole;

    // Looks at the file again; with a limit, frees what is above it. A file that shrank reads as
    // its new size. False: it could not be looked at.
    bool Refresh(uint64_t limit);
    // Somebody emptied or removed the file: what the outcome promised, up to `promised`, is told as
    // gone, or the daemon would wait for it for ever.
    void Promise(uint64_t promised);
    bool HasMore() const { return pushed < size; }
};

// Whether any process has one of the command's output files open for writing.
bool HasWriter(int file, View spool_path, uint64_t n, const char* name);

}  // namespace sbxfs::supervisor
