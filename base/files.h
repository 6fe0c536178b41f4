// Whole small files and random bytes: the few operations on local files that every layer needs.
// They block on the disk: never from FUSE or I/O threads.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace sbxfs {

// open(2) with O_CLOEXEC added; the error names the path.
Result<UniqueFd> OpenFile(const std::string& path, int flags, mode_t mode = 0);
// All bytes of a file of at most `limit` bytes; EFBIG above.
Result<std::string> ReadWholeFile(const std::string& path, std::size_t limit = 16U << 20);
Status WriteAll(int fd, std::string_view bytes);
// Replaces `path` in one step: a temporary file beside it, fsync, rename, fsync of the directory.
Status ReplaceFile(const std::string& path, std::string_view bytes, mode_t mode);
// mkdir -p; directories made get `mode`.
Status MakeDirs(const std::string& path, mode_t mode);

// `count` bytes from the kernel's generator.
std::string RandomBytes(std::size_t count);
std::uint64_t RandomNumber();

}  // namespace sbxfs
