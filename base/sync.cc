#include "base/sync.h"

#include "base/check.h"

#ifdef SBXFS_DEBUG
#include <array>
#include <cstddef>
#endif

namespace sbxfs {

#ifdef SBXFS_DEBUG
namespace {

// The ranks this thread holds, in the order taken. Eight is twice the deepest nesting docs/LOCKS.md
// allows.
struct HeldRanks {
    std::array<LockRank, 8> ranks{};
    std::size_t count = 0;

    void Push(LockRank rank) {
        CHECK(count < ranks.size());
        CHECK(count == 0 || ranks[count - 1] < rank);  // lock order: see docs/LOCKS.md
        ranks[count++] = rank;
    }
    void Pop(LockRank rank) {
        CHECK(count > 0 && ranks[count - 1] == rank);  // scoped locks end in reverse order
        --count;
    }
};

thread_local HeldRanks held;

}  // namespace
#endif

void Mutex::Lock() NO_THREAD_SAFETY_ANALYSIS {
#ifdef SBXFS_DEBUG
    held.Push(rank_);
#endif
    mu_.lock();
}

void Mutex::Unlock() NO_THREAD_SAFETY_ANALYSIS {
    mu_.unlock();
#ifdef SBXFS_DEBUG
    held.Pop(rank_);
#endif
}

void CondVar::Wait(Mutex& mu) {
    cv_.wait(mu.mu_);
}

bool CondVar::WaitFor(Mutex& mu, std::chrono::nanoseconds limit) {
    return cv_.wait_for(mu.mu_, limit) == std::cv_status::no_timeout;
}

}  // namespace sbxfs
