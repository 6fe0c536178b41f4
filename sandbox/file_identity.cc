#include "sandbox/file_identity.h"

#include <sys/stat.h>

#include <algorithm>

namespace sbxfs {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

std::int64_t FloorSeconds(std::int64_t ns) {
    return ns >= 0 ? ns / kSecond : -((-ns + kSecond - 1) / kSecond);
}

}  // namespace

bool SameFile(const IdentityStat& one, const IdentityStat& other) {
    if (one.error != 0 || other.error != 0 || one.dev != other.dev || one.ino != other.ino ||
        (one.mode & S_IFMT) != (other.mode & S_IFMT))
        return false;
    if (one.birth_ns != 0 && other.birth_ns != 0) return one.birth_ns == other.birth_ns;
    return one.ctime_ns == other.ctime_ns;
}

bool SameAndUnchanged(const IdentityStat& before, const IdentityStat& after) {
    if (before.error != 0 || after.error != 0) return before.error == after.error;
    return SameFile(before, after) && before.mode == after.mode && before.size == after.size &&
           before.mtime_ns == after.mtime_ns && before.ctime_ns == after.ctime_ns;
}

bool Agrees(const IdentityStat& identity, const RemoteStat& stat) {
    if (identity.error != 0 || identity.mode != stat.mode || identity.size != stat.size)
        return false;
    // SFTP's seconds are 32 bits without a sign.
    const std::int64_t seconds =
        std::clamp<std::int64_t>(FloorSeconds(identity.mtime_ns), 0, UINT32_MAX);
    return seconds == stat.mtime;
}

bool IsRecent(const IdentityStat& identity, std::int64_t read_at_ns) {
    return std::max(identity.mtime_ns, identity.ctime_ns) > read_at_ns - kSecond;
}

bool IsRecent(const RemoteStat& stat, std::int64_t read_at_ns) {
    return stat.mtime >= FloorSeconds(read_at_ns) - 1;
}

}  // namespace sbxfs
