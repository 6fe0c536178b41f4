// CHECK(x): always on; the program is wrong if x is false, so it aborts with the place and the
// expression. DCHECK(x): the same in debug and sanitizer builds only. Never for what came from
// outside: that is a Result.
#pragma once

namespace sbxfs {
[[noreturn]] void CheckFailed(const char* expression, const char* file, int line);
}  // namespace sbxfs

#define CHECK(x) ((x) ? static_cast<void>(0) : ::sbxfs::CheckFailed(#x, __FILE__, __LINE__))
#ifdef SBXFS_DEBUG
#define DCHECK(x) CHECK(x)
#else
#define DCHECK(x) static_cast<void>(sizeof(!(x)))
#endif
