#include "sandbox/supervisor/output.h"

#include <linux/falloc.h>

#include "sandbox/supervisor/process.h"
#include "sandbox/supervisor/sys.h"

namespace sbxfs::supervisor {
namespace {

// Not a system call for each page that arrives.
constexpr uint64_t kSlack = 256U << 10;

// Where the file system knows no leases: looks through everybody's descriptors.
bool SomeoneHolds(View path) {
    Vec<Process> all;
    ListProcesses(&all);
    const int self = sys::GetPid();
    for (const Process& process : all) {
        if (process.pid == self) continue;
        Str name;
        name.append("/proc/").Number(static_cast<uint64_t>(process.pid)).append("/fd");
        const Fd fds(sys::OpenAt(AT_FDCWD, name.c_str(), O_RDONLY | O_DIRECTORY));
        if (!fds) continue;
        bool found = false;
        ListNames(fds.get(), [&](View fd) {
            char target[4096];
            const long length = sys::ReadLinkAt(fds.get(), fd.data, target, sizeof target);
            found = found || (length > 0 && View(target, static_cast<size_t>(length)) == path);
        });
        if (found) return true;
    }
    return false;
}

}  // namespace

bool OutputStream::Refresh(uint64_t limit) {
    if (!file) return false;
    struct stat stat {};
    if (sys::StatFd(file.get(), &stat) < 0) return false;
    size = static_cast<uint64_t>(stat.st_size);
    const Hole wanted = HoleFor(size, limit);
    if (wanted.to <= hole.to || wanted.to - hole.to < kSlack) return true;
    const uint64_t from = hole.to > wanted.from ? hole.to : wanted.from;
    // fallocate(2) wants a descriptor for writing. Where holes cannot be made the bytes stay.
    Str name;
    name.append("/proc/self/fd/").Number(static_cast<uint64_t>(file.get()));
    const Fd writable(sys::OpenAt(AT_FDCWD, name.c_str(), O_WRONLY));
    if (!writable) return true;
    if (sys::Allocate(writable.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from,
                      wanted.to - from) == 0) {
        hole = wanted;
    }
    return true;
}

void OutputStream::Promise(uint64_t promised) {
    if (size >= promised) return;
    hole = {size, promised};
    size = promised;
}

bool HasWriter(int file, View spool_path, uint64_t n, const char* name) {
    constexpr int kSetLease = 1024;
    // fcntl(2): a read lease is refused while somebody has the file open for writing. One call
    // instead of a walk through everybody's descriptors.
    const long error = sys::Control(file, kSetLease, F_RDLCK);
    if (error == 0) {
        sys::Control(file, kSetLease, F_UNLCK);
        return false;
    }
    if (error == -EAGAIN) return true;
    Str path(spool_path);
    path.append("/commands/").Number(n).append("/").append(View(name));
    return SomeoneHolds(path.view());
}

}  // namespace sbxfs::supervisor
