// Mutex, MutexLock and CondVar: std's, with the annotations that `clang++ -Wthread-safety` checks,
// and in debug builds a check of the lock order. Use these, never std::mutex, whose declarations
// carry no annotations.
//
// Every Mutex names its rank from docs/LOCKS.md. A thread may only take a mutex of a higher rank
// than any it holds; a debug build aborts on the first violation instead of waiting for the
// deadlock.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define SBXFS_TSA(x) __attribute__((x))
#else
#define SBXFS_TSA(x)
#endif
#define CAPABILITY(x) SBXFS_TSA(capability(x))
#define SCOPED_CAPABILITY SBXFS_TSA(scoped_lockable)
#define GUARDED_BY(x) SBXFS_TSA(guarded_by(x))
#define REQUIRES(...) SBXFS_TSA(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) SBXFS_TSA(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...) SBXFS_TSA(acquire_capability(__VA_ARGS__))
#define RELEASE(...) SBXFS_TSA(release_capability(__VA_ARGS__))
#define NO_THREAD_SAFETY_ANALYSIS SBXFS_TSA(no_thread_safety_analysis)

namespace sbxfs {

// The order in which locks are taken, lowest first; docs/LOCKS.md says why. All but kHandle,
// kSandbox and kCommands are leaves: nothing else is locked while they are held.
enum class LockRank : int {
    kHandleTable = 10,
    kHandle = 20,
    kTree = 30,
    kInodeTable = 40,
    kSandboxes = 50,
    kSandbox = 60,
    kCommands = 70,
    kWatchers = 75,
    kOutputBudget = 77,
    kFileCache = 78,
    kWriteBehind = 78,
    kKernelCache = 79,
    kStore = 80,
    kOutputs = 85,
    kProvider = 88,
    kConfig = 89,
    kRefusals = 90,
    kParkingLot = 100,
    kCancelQueue = 105,
    kKernelQueue = 110,
    kLoopInbox = 120,
    kLog = 130,
};

class CAPABILITY("mutex") Mutex {
 public:
    explicit Mutex(LockRank rank) : rank_(rank) {}
    Mutex(const Mutex&) = delete;
    Mutex& operator=(const Mutex&) = delete;

    void Lock() ACQUIRE();
    void Unlock() RELEASE();

 private:
    friend class CondVar;
    std::mutex mu_;
    [[maybe_unused]] const LockRank rank_;  // read by debug builds
};

class SCOPED_CAPABILITY MutexLock {
 public:
    explicit MutexLock(Mutex& mu) ACQUIRE(mu) : mu_(mu) { mu_.Lock(); }
    ~MutexLock() RELEASE() { mu_.Unlock(); }
    MutexLock(const MutexLock&) = delete;
    MutexLock& operator=(const MutexLock&) = delete;

 private:
    Mutex& mu_;
};

// Only threads that exist to wait (store, kernel, cancel, outputs) use one; FUSE and I/O threads
// never do.
class CondVar {
 public:
    void Wait(Mutex& mu) REQUIRES(mu);
    // False when `limit` passed first.
    bool WaitFor(Mutex& mu, std::chrono::nanoseconds limit) REQUIRES(mu);
    void NotifyOne() { cv_.notify_one(); }
    void NotifyAll() { cv_.notify_all(); }

 private:
    std::condition_variable_any cv_;
};

}  // namespace sbxfs
