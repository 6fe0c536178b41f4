#include "tests/fakes/faulty_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdarg>
#include <map>
#include <memory>
#include <optional>

#include "base/check.h"
#include "base/sync.h"

namespace sbxfs::testing {
namespace {

struct Disk {
    Mutex mu{LockRank::kLog};
    CondVar changed;
    FaultyDisk::Fault fault GUARDED_BY(mu) = FaultyDisk::Fault::kNone;
    std::optional<std::uint64_t> left GUARDED_BY(mu);
    std::uint64_t commits GUARDED_BY(mu) = 0;
    // FailAt().
    std::atomic<bool> counting{false};
    std::uint64_t operations GUARDED_BY(mu) = 0;
    std::uint64_t fails_at GUARDED_BY(mu) = 0;
    FaultyDisk::Fault fails_with GUARDED_BY(mu) = FaultyDisk::Fault::kNone;
    FaultyDisk::Lasting lasting GUARDED_BY(mu) = FaultyDisk::Lasting::kOnce;
    bool holding GUARDED_BY(mu) = false;
    int held GUARDED_BY(mu) = 0;
    // SQLite's own methods, by the table they are in, and ours in their place.
    std::map<const sqlite3_io_methods*, std::unique_ptr<sqlite3_io_methods>> ours GUARDED_BY(mu);
    std::map<const sqlite3_io_methods*, const sqlite3_io_methods*> real GUARDED_BY(mu);
};

Disk& TheDisk() {
    static Disk disk;
    return disk;
}

const sqlite3_io_methods& RealMethods(sqlite3_file* file) {
    Disk& disk = TheDisk();
    const MutexLock lock(disk.mu);
    return *disk.real.at(file->pMethods);
}

enum class Needs { kRoom, kNothing };

// Counts an operation: how it shall fail.
FaultyDisk::Fault NextOperation(Needs needs) {
    Disk& disk = TheDisk();
    if (!disk.counting) return FaultyDisk::Fault::kNone;
    const MutexLock lock(disk.mu);
    const std::uint64_t which = disk.operations++;
    const bool hit =
        disk.lasting == FaultyDisk::Lasting::kOn ? which >= disk.fails_at : which == disk.fails_at;
    const bool spared = disk.fails_with == FaultyDisk::Fault::kFull && needs == Needs::kNothing;
    return hit && !spared ? disk.fails_with : FaultyDisk::Fault::kNone;
}

int CodeNow(int broken, Needs needs) {
    Disk& disk = TheDisk();
    FaultyDisk::Fault fault = NextOperation(needs);
    const MutexLock lock(disk.mu);
    if (fault == FaultyDisk::Fault::kNone) fault = disk.fault;
    switch (fault) {
        case FaultyDisk::Fault::kNone:
            return SQLITE_OK;
        case FaultyDisk::Fault::kFull:
            return SQLITE_FULL;
        case FaultyDisk::Fault::kBroken:
            return broken;
    }
    return broken;
}

int Write(sqlite3_file* file, const void* bytes, int count, sqlite3_int64 offset) {
    const int code = CodeNow(SQLITE_IOERR_WRITE, Needs::kRoom);
    if (code == SQLITE_OK) return RealMethods(file).xWrite(file, bytes, count, offset);
    if (code == SQLITE_FULL) (void)RealMethods(file).xWrite(file, bytes, count / 2, offset);
    return code;
}

int Truncate(sqlite3_file* file, sqlite3_int64 size) {
    const int code = CodeNow(SQLITE_IOERR_TRUNCATE, Needs::kNothing);
    return code != SQLITE_OK ? code : RealMethods(file).xTruncate(file, size);
}

// With synchronous=FULL every commit ends with one of these.
int Sync(sqlite3_file* file, int flags) {
    Disk& disk = TheDisk();
    {
        const MutexLock lock(disk.mu);
        ++disk.held;
        disk.changed.NotifyAll();
        while (disk.holding)
            disk.changed.Wait(disk.mu);
        --disk.held;
    }
    int code = CodeNow(SQLITE_IOERR_FSYNC, Needs::kNothing);
    if (code == SQLITE_OK) code = RealMethods(file).xSync(file, flags);
    if (code != SQLITE_OK) return code;
    const MutexLock lock(disk.mu);
    ++disk.commits;
    if (disk.left && --*disk.left == 0) disk.fault = FaultyDisk::Fault::kBroken;
    return code;
}

int (*real_open)(sqlite3_vfs*, const char*, sqlite3_file*, int, int*);

int Open(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out_flags) {
    const int code = real_open(vfs, name, file, flags, out_flags);
    if (code != SQLITE_OK || file->pMethods == nullptr) return code;
    Disk& disk = TheDisk();
    const MutexLock lock(disk.mu);
    std::unique_ptr<sqlite3_io_methods>& mine = disk.ours[file->pMethods];
    if (mine == nullptr) {
        mine = std::make_unique<sqlite3_io_methods>(*file->pMethods);
        mine->xWrite = &Write;
        mine->xTruncate = &Truncate;
        mine->xSync = &Sync;
        disk.real[mine.get()] = file->pMethods;
    }
    file->pMethods = mine.get();
    return code;
}

// A copy of the default VFS whose files pass through here.
void Install() {
    static const bool installed = [] {
        static sqlite3_vfs vfs = *sqlite3_vfs_find(nullptr);
        vfs.zName = "faulty";
        vfs.pNext = nullptr;
        real_open = vfs.xOpen;
        vfs.xOpen = &Open;
        CHECK(sqlite3_vfs_register(&vfs, 1) == SQLITE_OK);
        return true;
    }();
    (void)installed;
}

}  // namespace

FaultyDisk::FaultyDisk() {
    CHECK(sqlite3_initialize() == SQLITE_OK);
    Install();
    Disk& disk = TheDisk();
    const MutexLock lock(disk.mu);
    disk.commits = 0;
}

FaultyDisk::~FaultyDisk() {
    Heal();
    Release();
}

void FaultyDisk::Fail(Fault fault) {
    Disk& disk = TheDisk();
    const MutexLock lock(disk.mu);
    disk.fault = fault;
}

void FaultyDisk::FailAt(std::uint64_t operation, Fault fault, Lasting lasting) {
    Disk& disk = TheDisk();
    const MutexLock lock(disk.mu);
    disk.operations = 0;
    disk.fails_at = operation;
    disk.fails_with = fault;
    disk.lasting = lasting;
    disk.counting = true;
}

std::uint64_t FaultyDisk::operations() const {
    Disk& disk = TheDisk();
    const MutexLock lock(disk.mu);
    return disk.operations;
}

void FaultyDisk::BreakAfter(std::uint64_t commits) {
    Disk& disk = TheDisk();
    const MutexLock lock(disk.mu);
    disk.left = commits;
    if (commits == 0) disk.fault = Fault::kBroken;
}

void FaultyDisk::Heal() {
    Disk& disk = TheDisk();
    const MutexLock lock(disk.mu);
    disk.fault = Fault::kNone;
    disk.left.reset();
    disk.counting = false;
}

void FaultyDisk::Hold() {
    Disk& disk = TheDisk();
    const MutexLock lock(disk.mu);
    disk.holding = true;
}

void FaultyDisk::Release() {
    Disk& disk = TheDisk();
    const MutexLock lock(disk.mu);
    disk.holding = false;
    disk.changed.NotifyAll();
}

void FaultyDisk::AwaitHeld() {
    Disk& disk = TheDisk();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    const MutexLock lock(disk.mu);
    while (disk.held == 0) {
        CHECK(std::chrono::steady_clock::now() < deadline);  // no commit came
        (void)disk.changed.WaitFor(disk.mu, std::chrono::milliseconds(200));
    }
}

std::uint64_t FaultyDisk::commits() const {
    Disk& disk = TheDisk();
    const MutexLock lock(disk.mu);
    return disk.commits;
}

}  // namespace sbxfs::testing

// --- What is written beside the journal: outputs, log.jsonl, the reserve (ld --wrap, tests/CMakeLists.txt). Weak: programs that
// are linked without have no use for it.

using sbxfs::testing::FaultyDisk;

namespace {

// 0, or the errno that the operation fails with.
int ErrnoNow(bool needs_room) {
    namespace disk = sbxfs::testing;
    const auto needs = needs_room ? disk::Needs::kRoom : disk::Needs::kNothing;
    switch (disk::NextOperation(needs)) {
        case FaultyDisk::Fault::kNone:
            return 0;
        case FaultyDisk::Fault::kFull:
            return ENOSPC;
        case FaultyDisk::Fault::kBroken:
            return EIO;
    }
    return EIO;
}

int Refused(int code) {
    errno = code;
    return -1;
}

}  // namespace

extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming,cert-dcl37-c,cert-dcl51-cpp): the linker's names.
__attribute__((weak)) int __real_open64(const char* path, int flags, ...);
__attribute__((weak)) ssize_t __real_pwrite64(int fd, const void* bytes, size_t count,
                                              off_t offset);
__attribute__((weak)) int __real_ftruncate64(int fd, off_t size);
__attribute__((weak)) int __real_truncate64(const char* path, off_t size);
__attribute__((weak)) int __real_fdatasync(int fd);
__attribute__((weak)) int __real_mkdir(const char* path, mode_t mode);
__attribute__((weak)) int __real_posix_fallocate64(int fd, off_t offset, off_t size);

int __wrap_open64(const char* path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    const auto mode = (flags & O_CREAT) != 0 ? va_arg(more, mode_t) : 0;
    va_end(more);
    if ((flags & O_ACCMODE) != O_RDONLY) {
        if (const int code = ErrnoNow((flags & O_CREAT) != 0)) return Refused(code);
    }
    return __real_open64(path, flags, mode);
}

ssize_t __wrap_pwrite64(int fd, const void* bytes, size_t count, off_t offset) {
    const int code = ErrnoNow(true);
    if (code == ENOSPC) (void)__real_pwrite64(fd, bytes, count / 2, offset);
    return code != 0 ? Refused(code) : __real_pwrite64(fd, bytes, count, offset);
}

int __wrap_ftruncate64(int fd, off_t size) {
    const int code = ErrnoNow(false);
    return code != 0 ? Refused(code) : __real_ftruncate64(fd, size);
}

int __wrap_truncate64(const char* path, off_t size) {
    const int code = ErrnoNow(false);
    return code != 0 ? Refused(code) : __real_truncate64(path, size);
}

int __wrap_fdatasync(int fd) {
    const int code = ErrnoNow(false);
    return code != 0 ? Refused(code) : __real_fdatasync(fd);
}

int __wrap_mkdir(const char* path, mode_t mode) {
    const int code = ErrnoNow(true);
    return code != 0 ? Refused(code) : __real_mkdir(path, mode);
}

int __wrap_posix_fallocate64(int fd, off_t offset, off_t size) {
    const int code = ErrnoNow(true);
    return code != 0 ? code : __real_posix_fallocate64(fd, offset, size);
}
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming,cert-dcl37-c,cert-dcl51-cpp)
}
