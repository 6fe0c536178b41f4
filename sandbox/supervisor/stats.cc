#include "sandbox/supervisor/stats.h"

#include <linux/limits.h>

namespace sbxfs::supervisor {
namespace {

// Anybody may set a time that 64 bits of nanoseconds have no room for.
int64_t WrappedNs(uint64_t seconds, uint64_t ns) {
    return static_cast<int64_t>(seconds * 1000000000 + ns);
}

StatFields Failed(long error) {
    StatFields fields;
    fields.error = static_cast<uint32_t>(-error);
    return fields;
}

// When the file was made; 0 where nobody knows, or when another is there by now. Old kernels and some
// containers' filters have no statx(2).
int64_t BirthOf(long error, const struct statx& found, uint64_t ino) {
    if (error < 0 || (found.stx_mask & STATX_BTIME) == 0 || found.stx_ino != ino) return 0;
    return found.stx_btime.tv_sec * 1000000000 + found.stx_btime.tv_nsec;
}

constexpr unsigned kBirth = STATX_BTIME | STATX_INO;

}  // namespace

uint32_t WhyNoPath(View path) {
    if (path.empty() || path[0] != '/' || path.Has('\0')) return EINVAL;
    return path.size >= PATH_MAX ? ENAMETOOLONG : 0;
}

StatFields FieldsOf(const struct stat& stat) {
    StatFields fields;
    fields.dev = stat.st_dev;
    fields.ino = stat.st_ino;
    fields.mode = stat.st_mode;
    fields.nlink = static_cast<uint32_t>(stat.st_nlink);
    fields.uid = stat.st_uid;
    fields.gid = stat.st_gid;
    fields.size = static_cast<uint64_t>(stat.st_size);
    fields.mtime_ns = WrappedNs(static_cast<uint64_t>(stat.st_mtime), stat.st_mtime_nsec);
    fields.ctime_ns = WrappedNs(static_cast<uint64_t>(stat.st_ctime), stat.st_ctime_nsec);
    return fields;
}

StatFields StatOf(View path) {
    if (const uint32_t error = WhyNoPath(path); error != 0)
        return Failed(-static_cast<long>(error));
    Str name(path);
    struct stat stat {};
    if (const long error = sys::StatAt(AT_FDCWD, name.c_str(), &stat); error < 0)
        return Failed(error);
    StatFields fields = FieldsOf(stat);
    struct statx found {};
    const long error = sys::Statx(AT_FDCWD, name.c_str(), kBirth, &found);
    fields.birth_ns = BirthOf(error, found, fields.ino);
    return fields;
}

StatFields StatOfFd(int fd) {
    struct stat stat {};
    if (const long error = sys::StatFd(fd, &stat); error < 0) return Failed(error);
    StatFields fields = FieldsOf(stat);
    struct statx found {};
    const long error = sys::StatxFd(fd, kBirth, &found);
    fields.birth_ns = BirthOf(error, found, fields.ino);
    return fields;
}

}  // namespace sbxfs::supervisor
