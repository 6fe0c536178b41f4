#include "fs/fuse_channel.h"

#include <errno.h>
#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace sbxfs {
namespace {

// libfuse 3.14.0 never passes FUSE_PARALLEL_DIROPS on, though it takes the wish: the kernel then lets
// only one look-up or listing run in a directory at a time, and who waits behind a parked one cannot be
// killed. So the bit is put into the INIT answer, the first thing a session writes. Test:
// Protocol.LookupsOfOneDirectoryMayRunSideBySide.
std::atomic<bool> init_answered{false};

ssize_t WriteAnswer(int fd, iovec* parts, int count, void*) {
    std::array<char, sizeof(fuse_init_out)> init{};
    if (init_answered.exchange(true) || count < 2 || parts[1].iov_len > init.size() ||
        parts[1].iov_len < offsetof(fuse_init_out, flags) + sizeof(std::uint32_t)) {
        return ::writev(fd, parts, count);
    }
    std::memcpy(init.data(), parts[1].iov_base, parts[1].iov_len);
    std::uint32_t flags = 0;
    char* at = init.data() + offsetof(fuse_init_out, flags);
    std::memcpy(&flags, at, sizeof flags);
    flags |= FUSE_PARALLEL_DIROPS;
    std::memcpy(at, &flags, sizeof flags);
    const std::array<iovec, 2> patched = {parts[0], iovec{init.data(), parts[1].iov_len}};
    return ::writev(fd, patched.data(), 2);
}

ssize_t ReadRequest(int fd, void* to, std::size_t size, void*) {
    const ssize_t got = ::read(fd, to, size);
    if (got > 0) return got;
    // The other end is gone; or it went just while this request was handed over, as happens to whoever reads at the
    // moment of an unmount. Both are what libfuse knows as ENODEV, an end without an error.
    if (got == 0 || errno == ECONNABORTED) errno = ENODEV;
    return -1;
}

}  // namespace

fuse_custom_io FuseChannel() {
    init_answered = false;
    fuse_custom_io io{};
    io.writev = &WriteAnswer;
    io.read = &ReadRequest;
    return io;
}

}  // namespace sbxfs
