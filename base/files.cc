#include "base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "base/check.h"
#include "base/strings.h"

namespace sbxfs {

Result<UniqueFd> OpenFile(const std::string& path, int flags, mode_t mode) {
    UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC, mode));
    if (!fd) return SystemError(errno, "open " + path);
    return fd;
}

Result<std::string> ReadWholeFile(const std::string& path, std::size_t limit) {
    const UniqueFd fd = TRY(OpenFile(path, O_RDONLY));
    std::string bytes;
    std::array<char, 16384> chunk{};
    for (;;) {
        const ssize_t got = ::read(fd.get(), chunk.data(), chunk.size());
        if (got == 0) return bytes;
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return SystemError(errno, "read " + path);
        bytes.append(chunk.data(), static_cast<std::size_t>(got));
        if (bytes.size() > limit) {
            return Error(Errno{EFBIG},
                         path + " is larger than " + std::to_string(limit) + " bytes");
        }
    }
}

Status WriteAll(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t put = ::write(fd, bytes.data(), bytes.size());
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return SystemError(errno, "write");
        bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    return Ok();
}

Status ReplaceFile(const std::string& path, std::string_view bytes, mode_t mode) {
    const std::string temporary = path + ".new-" + Hex(RandomBytes(6));
    {
        const UniqueFd fd = TRY(OpenFile(temporary, O_WRONLY | O_CREAT | O_EXCL, mode));
        Status written = WriteAll(fd.get(), bytes);
        if (written && ::fsync(fd.get()) != 0) written = SystemError(errno, "fsync " + temporary);
        if (!written) {
            (void)::unlink(temporary.c_str());
            return std::move(written).error().While("writing " + path);
        }
    }
    if (::rename(temporary.c_str(), path.c_str()) != 0) {
        const int code = errno;
        (void)::unlink(temporary.c_str());
        return SystemError(code, "rename to " + path);
    }
    const std::size_t slash = path.rfind('/');
    const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    const UniqueFd dir = TRY(OpenFile(parent, O_RDONLY | O_DIRECTORY));
    if (::fsync(dir.get()) != 0) return SystemError(errno, "fsync " + parent);
    return Ok();
}

Status MakeDirs(const std::string& path, mode_t mode) {
    for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
        const std::string prefix = path.substr(0, slash);
        if (::mkdir(prefix.c_str(), mode) != 0 && errno != EEXIST) {
            return SystemError(errno, "mkdir " + prefix);
        }
        if (slash == std::string::npos) break;
    }
    struct stat found {};
    if (::stat(path.c_str(), &found) != 0) return SystemError(errno, "stat " + path);
    if (!S_ISDIR(found.st_mode)) return Error(Errno{ENOTDIR}, path + " is not a directory");
    return Ok();
}

std::string RandomBytes(std::size_t count) {
    std::string bytes(count, '\0');
    std::size_t have = 0;
    while (have < count) {
        const ssize_t got = ::getrandom(bytes.data() + have, count - have, 0);
        CHECK(got > 0 || errno == EINTR);
        if (got > 0) have += static_cast<std::size_t>(got);
    }
    return bytes;
}

std::uint64_t RandomNumber() {
    const std::string bytes = RandomBytes(sizeof(std::uint64_t));
    std::uint64_t number = 0;
    std::memcpy(&number, bytes.data(), sizeof number);
    return number;
}

}  // namespace sbxfs
