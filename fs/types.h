// The vocabulary of the front end, free of libfuse: numbers, who calls, what a file looks like.
// Plain values.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>

#include "base/clock.h"

namespace sbxfs {

// A node as the kernel knows it. Never reused, so the kernel's generation stays 0.
enum class Ino : std::uint64_t {};
inline constexpr Ino kRootIno{1};
// An open file or directory.
enum class Handle : std::uint64_t {};

constexpr std::uint64_t Raw(Ino ino) {
    return static_cast<std::uint64_t>(ino);
}
constexpr std::uint64_t Raw(Handle handle) {
    return static_cast<std::uint64_t>(handle);
}

// Who asks. `tid` is a *thread* id, and 0 when the caller lives in a pid namespace that cannot be
// seen from here.
struct Caller {
    uid_t uid = 0;
    gid_t gid = 0;
    pid_t tid = 0;
};

// stat(2), as far as it is told to the kernel.
struct Attr {
    std::uint64_t st_ino = 0;  // what programs see; not the kernel's number
    std::uint32_t mode = 0;
    std::uint32_t nlink = 1;  // 1 for directories too: unknown, so find(1) does not count on it
    uid_t uid = 0;
    gid_t gid = 0;
    std::uint64_t size = 0;
    SystemTime atime{};
    SystemTime mtime{};
    SystemTime ctime{};
};

// How long the kernel may serve an answer without asking again. Zero: not at all.
struct Lease {
    Duration name{0};
    Duration attributes{0};
};

struct Entry {
    Ino ino{};
    Attr attr;
    Lease lease{};
};

// How an open file is served.
struct Opened {
    Handle handle{};
    bool direct_io = false;   // no page cache: control files, files whose read waits, appenders
    bool keep_cache = false;  // what the kernel has cached of it is still true
    bool nonseekable = false;
};

// One name in a directory.
struct Listed {
    std::string name;
    std::uint32_t type = 0;  // S_IFMT bits
    std::uint64_t st_ino = 0;
};

struct StatfsAnswer {
    std::uint64_t block_size = 4096;
    std::uint64_t blocks = 0;
    std::uint64_t blocks_free = 0;
    std::uint64_t blocks_available = 0;
    std::uint64_t files = 0;
    std::uint64_t files_free = 0;
    std::uint64_t name_max = 255;
};

}  // namespace sbxfs
