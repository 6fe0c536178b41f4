#include "tests/fakes/faulty_disk.h"

#include <sqlite3.h>

#include <chrono>
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

int CodeNow(int broken) {
    Disk& disk = TheDisk();
    const MutexLock lock(disk.mu);
    switch (disk.fault) {
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
    const int code = CodeNow(SQLITE_IOERR_WRITE);
    return code != SQLITE_OK ? code : RealMethods(file).xWrite(file, bytes, count, offset);
}

int Truncate(sqlite3_file* file, sqlite3_int64 size) {
    const int code = CodeNow(SQLITE_IOERR_TRUNCATE);
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
    int code = CodeNow(SQLITE_IOERR_FSYNC);
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
