// One output stream of a command, read from its file: how much there is, how much was pushed to the
// daemon, what was punched out of the middle because of the output limit.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/files.h"

namespace sbxfs::supervisor {

// What is kept of a stream with a limit: the first bytes, and the newest.
inline constexpr uint64_t kKeptHead = 1U << 20;

struct Hole {
    uint64_t from = 0;
    uint64_t to = 0;
};

// What may go when `size` bytes were written under `limit`: whole pages after the head and before
// the newest rest. Empty (from == to) while nothing needs to. Pure.
Hole HoleFor(uint64_t size, uint64_t limit);

struct OutputStream {
    Fd file;
    uint64_t size = 0;  // when it was last looked at
    uint64_t pushed = 0;
    Hole hole;

    // Looks at the file again; with a limit, frees what is above it. A file that shrank reads as
    // its new size.
    void Refresh(uint64_t limit);
    // Somebody emptied or removed the file: what the outcome promised, up to `promised`, is told as
    // gone, or the daemon would wait for it for ever.
    void Promise(uint64_t promised);
    bool HasMore() const { return pushed < size; }
};

// Whether any process has one of the command's output files open for writing.
bool HasWriter(int file, View spool_path, uint64_t n, const char* name);

}  // namespace sbxfs::supervisor
