#include "sandbox/state_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>

#include "base/files.h"
#include "base/strings.h"

namespace sbxfs {

Result<StateDir> StateDir::Open(std::string path, const std::string& holder) {
    if (path.empty() || path[0] != '/') {
        return Error(Errno{EINVAL},
                     "state_dir must be an absolute path, not '" + Printable(path) + "'");
    }
    (void)TRY(MakeDirs(path, 0700));
    struct stat found {};
    if (::stat(path.c_str(), &found) != 0) return SystemError(errno, "stat " + path);
    if (found.st_uid != ::geteuid()) {
        return Error(Errno{EACCES}, "state directory " + path + " belongs to user " +
                                        std::to_string(found.st_uid) +
                                        ": choose another with -o state_dir=DIR");
    }
    if ((found.st_mode & 077) != 0 && ::chmod(path.c_str(), 0700) != 0) {
        return SystemError(errno, "chmod " + path);
    }
    const std::string lock_path = path + "/lock";
    UniqueFd lock = TRY(OpenFile(lock_path, O_RDWR | O_CREAT, 0600));
    // A daemon that was just unmounted may still be on its way out.
    int attempts = 150;
    while (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK && --attempts > 0) {
        const timespec pause{0, 20'000'000};
        (void)::nanosleep(&pause, nullptr);
    }
    if (attempts == 0 || ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) return SystemError(errno, "flock " + lock_path);
        const Result<std::string> other = ReadWholeFile(lock_path, 4096);
        const std::string who =
            other && !other->empty() ? std::string(Trim(*other)) : "another sbxfs";
        return Error(Errno{EBUSY},
                     "state directory " + path + " is in use by " + who +
                         ": unmount that first, or choose another with -o state_dir=DIR");
    }
    if (::ftruncate(lock.get(), 0) != 0) return SystemError(errno, "truncate " + lock_path);
    if (const Status told = WriteAll(lock.get(), holder + "\n"); !told) {
        return Error(
            told.error().code(),
            "state directory " + path + ": " + told.error().what() +
                (told.error().code() == Errno{ENOSPC} ? ": free some space on its disk" : ""));
    }
    return StateDir(std::move(path), std::move(lock));
}

Result<std::string> StateDir::DefaultBase() {
    // Called by main before threads start.
    const char* xdg =
        ::getenv("XDG_STATE_HOME");       // NOLINT(concurrency-mt-unsafe): single-threaded here
    const char* home = ::getenv("HOME");  // NOLINT(concurrency-mt-unsafe): single-threaded here
    if (::geteuid() == 0) return std::string("/var/lib/sbxfs");
    if (xdg != nullptr && xdg[0] == '/') return std::string(xdg) + "/sbxfs";
    if (home != nullptr && home[0] == '/') return std::string(home) + "/.local/state/sbxfs";
    return Error(Errno{EINVAL}, "HOME is not set: say where to keep state with -o state_dir=DIR");
}

std::string StateDir::LastHolder(const std::string& path) {
    const Result<std::string> text = ReadWholeFile(path + "/lock", 4096);
    return text ? std::string(Trim(*text)) : "";
}

bool StateDir::IsHeld(const std::string& path) {
    const Result<UniqueFd> lock = OpenFile(path + "/lock", O_RDWR);
    return lock && ::flock(lock->get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

Result<std::string> StateDir::DefaultFor(const std::string& mountpoint) {
    const std::string base = TRY(DefaultBase());
    // Readable in a listing and unique: the last component plus a hash of the whole path.
    std::string leaf = mountpoint.substr(mountpoint.rfind('/') + 1);
    for (char& c : leaf) {
        const bool plain =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!plain) c = '_';
    }
    const std::uint64_t hash = Fnv1a(mountpoint);
    const std::string bytes(reinterpret_cast<const char*>(&hash), sizeof hash);
    return base + "/" + leaf.substr(0, 32) + "-" + Hex(bytes).substr(0, 12);
}

}  // namespace sbxfs
