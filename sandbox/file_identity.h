// Which file a path names and whether it has changed, as the kernel of the sandbox tells it and SFTP
// cannot: inode, and times in nanoseconds. Plain values, read by the supervisor.
#pragma once

#include <cstdint>

#include "sandbox/remote_files.h"

namespace sbxfs {

// lstat(2) as the kernel there sees it.
struct IdentityStat {
    int error = 0;  // errno; all else is 0 then
    std::uint64_t dev = 0;
    std::uint64_t ino = 0;
    std::uint32_t mode = 0;
    std::uint32_t nlink = 0;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint64_t size = 0;
    std::int64_t mtime_ns = 0;
    std::int64_t ctime_ns = 0;
    std::int64_t birth_ns = 0;  // 0: the file system, or an older supervisor, does not tell
};

// The same file, unchanged: its content, its mode, and of a directory its names. ctime moves with every
// change and cannot be set back.
bool SameAndUnchanged(const IdentityStat& before, const IdentityStat& after);

// The same file, changed or not. A number is given to another file once its own is gone, so that the
// moment the file was made must be the same; where that is not known, only an unchanged file is
// recognised.
bool SameFile(const IdentityStat& one, const IdentityStat& other);

// Both were read of the same state of a file, as far as SFTP's words go.
bool Agrees(const IdentityStat& identity, const RemoteStat& stat);

// Changed so shortly before `read_at_ns` (the sandbox's clock), or in its future, that another change
// may have left the same times: they say nothing yet.
bool IsRecent(const IdentityStat& identity, std::int64_t read_at_ns);
// The same for the whole seconds of SFTP.
bool IsRecent(const RemoteStat& stat, std::int64_t read_at_ns);

}  // namespace sbxfs
